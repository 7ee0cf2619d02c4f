"""Records what diffusers, transformers and peft compute with the pipeline that ships (data/base), for the C++ tests.

    record_shipped.py        # about 15 s, seeded; needs the packages of record.py

To be run again whenever `data/base` is made anew: the tests compare its files with `shipped/files.json` first.
As in record.py, networks run in float64 on the float32 weights and are rounded once.
"""
import argparse
import hashlib
import pathlib
import shutil

import torch

from record import method_loss, vae_moments
from record_networks import attach, draw, grads, make_lora, write, write_json

torch.set_num_threads(1)
HERE = pathlib.Path(__file__).resolve().parent
PROMPTS = [
    "photo of zero", "photo of one", "photo of two", "photo of three", "photo of four", "photo of five", "photo of six",
    "photo of seven", "photo of eight", "photo of nine", "photo of three, thin slanted", "photo of seven, bold wide",
    "photo of eight, bold", "photo of five, narrow", "photo", "", "   ", "Photo  of THREE", "photo of a handwritten four",
    "printed digit 7", "0123456789", "photo of three,bold;wide", "don't you'll it's", "an unknown wörd, 42 & more!",
    "\u0130stanbul ΣΊΣΥΦΟΣ ß", "e\u0301 é", "数字 三", "🙂 photo", "a<|endoftext|>b", "three " * 40,
    "photo of nine, thin slanted narrow light small low contrast", "photo of -three- (bold)", "tab\tand  spaces"]
FULL = """conv_in.weight time_embedding.linear_2.bias down_blocks.0.resnets.0.norm1.weight
down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight down_blocks.0.downsamplers.0.conv.bias
down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight mid_block.attentions.0.proj_in.weight
mid_block.attentions.0.transformer_blocks.0.ff.net.2.bias mid_block.resnets.1.time_emb_proj.bias
up_blocks.0.resnets.1.conv_shortcut.bias up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v.weight
up_blocks.1.resnets.1.norm2.bias conv_norm_out.weight conv_out.weight""".split()


def single(name, model32, model64, call, *inputs):
    """The float64 answers; prints how far float32 is from them."""
    with torch.no_grad():
        exact = call(model64, *(x.double() if x.is_floating_point() else x for x in inputs))
        rough = call(model32, *inputs)
    gap = max((a - b).abs().max().item() for a, b in zip(exact, rough))
    print(f"  {name}: float32 differs by {gap:.1e}, values up to {max(a.abs().max().item() for a in exact):.2f}")
    return exact


def record_components(base, out, ids):
    """Each network on its own; returns text states of the prompts."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection
    both = lambda c, name: (c.from_pretrained(base / name).eval(), c.from_pretrained(base / name).eval().double())
    randn = draw(300)

    hidden, = single("text-encoder", *both(CLIPTextModel, "text_encoder"), lambda m, i: (m(input_ids=i).last_hidden_state,), ids[:12])
    write(out / "text-encoder/in.safetensors", {"input_ids": ids[9:12]})
    write(out / "text-encoder/out.safetensors", {"last_hidden_state": hidden[9:12]})

    vision = both(CLIPVisionModelWithProjection, "image_encoder")
    size = vision[0].config.image_size
    pixels = randn(3, 3, size, size)
    embeds, = single("image-encoder", *vision, lambda m, x: (m(pixel_values=x).image_embeds,), pixels)
    write(out / "image-encoder/in.safetensors", {"pixel_values": pixels})
    write(out / "image-encoder/out.safetensors", {"image_embeds": embeds})

    vae = both(AutoencoderKL, "vae")
    image, latent = randn(2, 3, size, size).clamp(-1, 1), randn(3, 4, size // 2, size // 2)
    mean, logvar = single("vae-encoder", *vae, vae_moments, image)
    decoded, = single("vae-decoder", *vae, lambda m, z: (m.decode(z).sample,), latent)
    write(out / "vae-encoder/in.safetensors", {"sample": image})
    write(out / "vae-encoder/out.safetensors", {"mean": mean, "logvar": logvar})
    write(out / "vae-decoder/in.safetensors", {"latent": latent})
    write(out / "vae-decoder/out.safetensors", {"sample": decoded})

    unet = both(UNet2DConditionModel, "unet")
    side = unet[0].config.sample_size
    case = {"sample": randn(3, 4, side, side), "timestep": torch.tensor([999, 401, 1]),
            "encoder_hidden_states": hidden[[0, 10, 11]].float()}
    answer, = single("unet", *unet, lambda m, x, t, c: (m(x, t, c).sample,), *case.values())
    write(out / "unet/in.safetensors", case)
    write(out / "unet/out.safetensors", {"sample": answer})
    return unet[1], vae[1], hidden


def record_training(base, out, unet, hidden):
    """Gradients of LoRA and of all weights with official matching, and two AdamW steps on the LoRA."""
    randn = draw(301)
    side = unet.config.sample_size
    case = {"latents": randn(3, 4, side, side), "noise": randn(3, 4, side, side), "timestep": torch.tensor([812, 400, 30]),
            "encoder_hidden_states": hidden[[3, 7, 10]].float()}
    options = {"snr_gamma": 5.0, "dist_match": 0.003, "mmd": "official"}
    steps = {"learning_rate": 1e-3, "clip": 0.5, "weight_decay": 1e-2, "second_timestep": [90, 655, 210]}
    from diffusers import DDIMScheduler
    schedule = dict(DDIMScheduler.from_pretrained(base / "scheduler").config)
    write(out / "in.safetensors", case)
    write_json(out / "options.json", {**options, **steps})

    lora = make_lora(unet, 302, rank=4)
    write(out / "lora.safetensors", lora)
    with_lora, params = attach(base, lora)
    adamw = torch.optim.AdamW(params.values(), lr=steps["learning_rate"], betas=(0.9, 0.999), eps=1e-8,
                              weight_decay=steps["weight_decay"])
    after = {}
    for step in (1, 2):
        batch = case if step == 1 else {**case, "timestep": torch.tensor(steps["second_timestep"])}
        adamw.zero_grad()
        r = method_loss(with_lora, batch, schedule, *options.values())
        r["loss"].backward()
        if step == 1:
            write(out / "out.safetensors", {**r, **{"grad." + k: p.grad for k, p in params.items()}})
        after[f"loss{step}"] = r["loss"]
        after[f"norm{step}"] = torch.nn.utils.clip_grad_norm_(params.values(), steps["clip"])
        adamw.step()
        print(f"  step {step}: loss {r['loss']:.5f} (matching {r['loss_mmd']:.4f}), norm {after[f'norm{step}']:.4f}")
        after.update({f"step{step}.{k}": p.detach().clone() for k, p in params.items()})
    write(out / "adamw.safetensors", after)

    unet.requires_grad_(True).zero_grad()
    r = method_loss(unet, case, schedule, *options.values())
    r["loss"].backward()
    write(out / "full.safetensors", {**r, **grads(unet, FULL)})
    unet.requires_grad_(False).zero_grad()


def record_img2img(base, out, unet, vae, ids, hidden):
    """Posterior, noise, guided DDIM steps, decoding. diffusers' own pipeline, in float32, must end at the same latents."""
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
    randn = draw(303)
    size, side = vae.config.sample_size, unet.config.sample_size
    image, posterior_noise = randn(2, 3, size, size).clamp(-1, 1), randn(2, 4, side, side)
    noise = draw(304)(2, 4, side, side)
    which, negative = [3, 11], 15
    steps, strength, guidance = 20, 0.5, 1.5
    scheduler = DDIMScheduler.from_pretrained(base / "scheduler")
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps[steps - int(steps * strength):]
    with torch.no_grad():
        from transformers import CLIPTextModel
        nothing = CLIPTextModel.from_pretrained(base / "text_encoder").eval().double()(input_ids=ids[[negative]]).last_hidden_state
        context = torch.cat([nothing.repeat(2, 1, 1), hidden[which]])
        mean, logvar = vae_moments(vae, image.double())
        x0 = vae.config.scaling_factor * (mean + (0.5 * logvar).exp() * posterior_noise.double())
        x = scheduler.add_noise(x0, noise.double(), timesteps[:1].repeat(2))
        result, guided, states = {"init_latents": x0, "noisy_latents": x}, [], []
        for t in timesteps:
            u, c = unet(torch.cat([x, x]), t.repeat(4), context).sample.chunk(2)
            guided.append(u + guidance * (c - u))
            x = scheduler.step(guided[-1], t, x, eta=0.0).prev_sample
            states.append(x)
        decoded = vae.decode(x / vae.config.scaling_factor).sample
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe([PROMPTS[i] for i in which], image=x0.float(), negative_prompt=[PROMPTS[negative]] * 2, strength=strength,
                  num_inference_steps=steps, guidance_scale=guidance, generator=torch.Generator().manual_seed(304),
                  output_type="latent").images
    gap = (theirs - x).abs().max().item()
    print(f"  img2img: diffusers' pipeline ends {gap:.1e} away; latents up to {x.abs().max():.2f}")
    assert gap < 1e-4
    write(out / "in.safetensors", {
        "image": image, "posterior_noise": posterior_noise, "noise": noise, "input_ids": ids[which],
        "negative_ids": ids[[negative] * 2]})
    write(out / "out.safetensors", {
        **result, "timesteps": timesteps.long(), "noise_prediction": torch.stack(guided), "latents": torch.stack(states),
        "sample": decoded})
    write_json(out / "options.json", {"steps": steps, "strength": strength, "guidance_scale": guidance, "eta": 0})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=pathlib.Path, default=HERE.parent.parent / "data/base")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "shipped")
    args = parser.parse_args()
    base, out = args.base, args.out
    from transformers import CLIPTokenizer
    shutil.rmtree(out, ignore_errors=True)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    ids = tokenizer(PROMPTS, padding="max_length", truncation=True, return_tensors="pt").input_ids
    write(out / "tokenizer/ids.safetensors", {"input_ids": ids})
    (out / "tokenizer/prompts.txt").write_text("".join(p + "\n" for p in PROMPTS), encoding="utf-8")
    unet, vae, hidden = record_components(base, out, ids)
    record_training(base, out / "training", unet, hidden)
    record_img2img(base, out / "img2img", unet, vae, ids, hidden)
    files = [p for p in sorted(base.glob("*/*")) if p.is_file()]
    write_json(out / "files.json", {str(p.relative_to(base)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files})


if __name__ == "__main__":
    main()
