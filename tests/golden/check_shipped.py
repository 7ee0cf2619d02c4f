"""Compares the program with diffusers and transformers on a pipeline folder, say the one that ships.

    check_shipped.py [--base data/base] [--realfake build/realfake] [--image-encoder DIR] [--tolerance 1e-4]

Loads each component of the folder in diffusers or transformers with their default arguments, runs it in float32 on
seeded random inputs, runs `realfake verify` on the same safetensors file, and prints the largest absolute differences.
Exits with 1 if one is above the tolerance, if token ids or timesteps differ, if a component misses weights or has ones
that nothing takes, if the folder as a whole does not load as a pipeline, or if nothing could be compared.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
HERE = pathlib.Path(__file__).resolve().parent
PROMPTS = ["photo of three", "photo of seven, a thin slanted seven", "", "Photo  of THREE", "zero, bold, wide",
           "an unknown wörd, 42 & more!", "three " * 100]


class Check:
    def __init__(self, program, tolerance, work):
        self.program, self.tolerance, self.work = program, tolerance, work
        self.failed = self.compared = 0

    def run(self, name, arguments, given, expected):
        """Runs the program on the tensors `given` and compares what it writes with `expected`."""
        source, result = self.work / f"{name}.in.safetensors", self.work / f"{name}.out.safetensors"
        save_file({k: v.contiguous() for k, v in given.items()}, source)
        self.run_file(name, arguments, source, result, expected)

    def run_file(self, name, arguments, source, result, expected):
        command = [str(self.program), "verify", *map(str, arguments), "--in", str(source), "--out", str(result)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            self.report(name, "-", False, f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
            return
        got = load_file(result)
        for key, want in expected.items():
            if key not in got:
                self.report(name, key, False, f"missing; the file has {sorted(got)}")
            elif got[key].shape != want.shape:
                self.report(name, key, False, f"shape {list(got[key].shape)}, expected {list(want.shape)}")
            elif not want.is_floating_point():
                different = int((got[key] != want).sum())
                self.report(name, key, different == 0, f"{different} of {want.numel()} differ")
            else:
                worst = (got[key].double() - want.double()).abs().max().item()
                ok = worst <= self.tolerance  # False for NaN too
                self.report(name, key, ok, f"max |difference| {worst:.2e}, max |value| {want.abs().max().item():.2e}")

    def report(self, name, key, ok, text):
        self.compared += 1
        self.failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {name:16} {key:20} {text}", flush=True)


    def load(self, kind, folder):
        """The network in float32, every weight of it from the file and every weight of the file in it."""
        model, info = kind.from_pretrained(folder, output_loading_info=True)
        wrong = {k: sorted(map(str, v)) for k, v in info.items() if v}
        self.report("load", folder.name, not wrong, f"{kind.__name__}, {model.dtype} {wrong or ''}")
        return model.float().eval()

    def load_pipeline(self, base):
        """The folder as a whole, and its tokenizer by transformers' own choice of class."""
        from diffusers import StableDiffusionPipeline
        from transformers import AutoTokenizer
        pipe = StableDiffusionPipeline.from_pretrained(base)
        pipe.set_progress_bar_config(disable=True)
        image = pipe(PROMPTS[0], num_inference_steps=2, output_type="pt",
                     generator=torch.Generator().manual_seed(0)).images
        self.report("load", "pipeline", bool(torch.isfinite(image).all()), f"two steps give {list(image.shape)}")
        tokenizers = AutoTokenizer.from_pretrained(base / "tokenizer"), pipe.tokenizer
        first, second = (t(PROMPTS, truncation=True).input_ids for t in tokenizers)
        same = first == second
        self.report("load", "AutoTokenizer", same, f"{'same' if same else 'other'} ids as {type(pipe.tokenizer).__name__}")


def forward(model, component):
    return ["forward", "--model", model, "--component", component]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = HERE.parent.parent
    parser.add_argument("--base", type=pathlib.Path, default=root / "data/base")
    parser.add_argument("--realfake", type=pathlib.Path, default=root / "build/realfake")
    parser.add_argument("--image-encoder", type=pathlib.Path, help="default: image_encoder/ of the base folder")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for path in (args.base, args.realfake):
        if not path.exists():
            parser.error(f"{path} does not exist")

    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection
    g = torch.Generator().manual_seed(args.seed)
    randn = lambda *shape: torch.randn(*shape, generator=g)
    base = args.base
    vision_folder = args.image_encoder or base / "image_encoder"

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        work = pathlib.Path(folder)
        check = Check(args.realfake, args.tolerance, work)
        unet, vae = check.load(UNet2DConditionModel, base / "unet"), check.load(AutoencoderKL, base / "vae")
        text = check.load(CLIPTextModel, base / "text_encoder")
        if (base / "model_index.json").exists():
            check.load_pipeline(base)

        length = text.config.max_position_embeddings
        if (base / "tokenizer").is_dir():
            tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
            length = tokenizer.model_max_length
            ids = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
            (work / "prompts.txt").write_text("".join(p + "\n" for p in PROMPTS), encoding="utf-8")
            check.run_file("tokenize", ["tokenize", "--tokenizer", base / "tokenizer"], work / "prompts.txt",
                           work / "ids.safetensors", {"input_ids": ids})
        else:
            print("skip tokenize: no tokenizer/ in the folder")
            ids = torch.randint(0, text.config.vocab_size, (3, length), generator=g)
        hidden = text(input_ids=ids).last_hidden_state
        check.run("text-encoder", forward(base, "text-encoder"), {"input_ids": ids}, {"last_hidden_state": hidden})

        if vision_folder.is_dir():
            vision = check.load(CLIPVisionModelWithProjection, vision_folder)
            size = vision.config.image_size
            pixels = randn(3, 3, size, size)
            check.run("image-encoder", forward(vision_folder, "image-encoder"), {"pixel_values": pixels},
                      {"image_embeds": vision(pixel_values=pixels).image_embeds})
        else:
            print(f"skip image-encoder: no {vision_folder}")

        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        h, w = unet.config.sample_size, unet.config.sample_size
        for tag, hh, ww in (("", h, w), (" wide", h, w + 2)):
            image = randn(2, vae.config.in_channels, hh * factor, ww * factor).clamp(-1, 1)
            posterior = vae.encode(image).latent_dist
            check.run("vae-encoder" + tag, forward(base, "vae-encoder"), {"sample": image},
                      {"mean": posterior.mean, "logvar": posterior.logvar})
            latent = randn(2, vae.config.latent_channels, hh, ww)
            check.run("vae-decoder" + tag, forward(base, "vae-decoder"), {"latent": latent},
                      {"sample": vae.decode(latent).sample})
            given = {"sample": randn(3, unet.config.in_channels, hh, ww), "timestep": torch.tensor([1, 401, 999]),
                     "encoder_hidden_states": hidden[:3].contiguous()}
            check.run("unet" + tag, forward(base, "unet"), given, {"sample": unet(**given).sample})

        scheduler = DDIMScheduler.from_pretrained(base / "scheduler")
        steps, strength = 20, 0.5
        scheduler.set_timesteps(steps)
        timesteps = scheduler.timesteps[steps - int(steps * strength):]
        x = start = randn(2, 4, h, w)
        outputs, states = [], []
        context = hidden[:2].contiguous()
        for t in timesteps:  # the network's true answers, so that the states stay O(1)
            outputs.append(unet(x, t, context).sample)
            x = scheduler.step(outputs[-1], t, x, eta=0.0).prev_sample
            states.append(x)
        check.run("sampler", ["sampler", "--scheduler", "ddim", "--scheduler_config", base / "scheduler/scheduler_config.json",
                              "--steps", steps, "--strength", strength, "--eta", 0],
                  {"latents": start, "model_output": torch.stack(outputs)},
                  {"timesteps": timesteps.long(), "latents": torch.stack(states)})

    print(f"{check.compared} compared, {check.failed} failed (tolerance {args.tolerance:g})")
    return 1 if check.failed or check.compared == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
