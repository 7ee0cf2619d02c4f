"""Records what PyTorch, diffusers, transformers and peft compute, for the C++ tests to compare with.

Run it only to make the recordings anew (see README.md); nothing of the product needs Python.
Every network runs in float64 on float32 weights and inputs, and its results are rounded to float32 once:
the recordings are nearer to the truth than any float32 run, so a tolerance is about the tested code alone.
"""
import argparse
import json
import math
import pathlib
import shutil

import torch
import torch.nn.functional as F

from record_networks import (ODD_UNET, SD2_UNET, SD15_SCHEDULER, abar, attach, build_text, build_unet, build_vae, build_vision,
                      draw, grads, hook_outputs, make_lora, model_index, write, write_json, write_lora_files)
from record_resnet import record_resnet
from record_sampler import record_samplers

torch.set_num_threads(1)
HERE = pathlib.Path(__file__).resolve().parent


# ---------------------------------------------------------------------------------------------- losses
def mmd_rbf(a, b):
    """DESIGN 12."""
    n = a.shape[0]
    x = torch.cat([a.flatten(1), b.flatten(1)])
    d2 = (x[:, None] - x[None]).square().sum(-1)
    i, j = torch.triu_indices(2 * n, 2 * n, 1)
    s2 = d2[i, j].mean().detach()
    off = ~torch.eye(n, dtype=torch.bool)
    total = 0
    for f in (0.25, 0.5, 1.0, 2.0, 4.0):
        k = torch.exp(-d2 / (2 * f * s2))
        total = total + (k[:n, :n][off].sum() + k[n:, n:][off].sum()) / (n * (n - 1)) - 2 * k[:n, n:].mean()
    return total / 5


def method_loss(unet, case, scheduler_config, snr_gamma, dist_match, mmd):
    a = abar(scheduler_config)[case["timestep"]].double()
    x0, e = case["latents"].double(), case["noise"].double()
    sa, sb = a.sqrt().view(-1, 1, 1, 1), (1 - a).sqrt().view(-1, 1, 1, 1)
    snr = a / (1 - a)
    if scheduler_config.get("prediction_type", "epsilon") == "v_prediction":
        target, w = sa * e - sb * x0, snr.clamp(max=snr_gamma) / (snr + 1)
    else:
        target, w = e, snr.clamp(max=snr_gamma) / snr
    if snr_gamma == 0:
        w = torch.ones_like(w)
    prediction = unet(sa * x0 + sb * e, case["timestep"], case["encoder_hidden_states"].double()).sample
    denoise = (w * (prediction - target).square().flatten(1).mean(1)).mean()
    if mmd == "official":
        wv = w.view(-1, 1, 1, 1)
        match = ((wv * prediction).sum(0) - (wv * target).sum(0)).square().mean()
    elif mmd == "rbf":
        match = mmd_rbf(prediction, target)
    else:
        match = torch.zeros((), dtype=torch.float64)
    loss = denoise + (dist_match * match if mmd != "off" else 0)
    return {"loss": loss, "loss_denoise": denoise, "loss_mmd": match, "prediction": prediction}


def record_gradient(folder, out, case, lora, options):
    """One `verify gradient` case per entry of options: name -> (snr_gamma, dist_match, mmd)."""
    scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    write(out / "in.safetensors", case)
    results = {}
    for name, (gamma, weight, mmd) in options.items():
        unet, params = attach(folder, lora)
        r = method_loss(unet, case, scheduler, gamma, weight, mmd)
        r["loss"].backward()
        r.update({"grad." + k: p.grad for k, p in params.items()})
        write(out / f"out_{name}.safetensors", r)
        results[name] = r
        print(f"  gradient {name}: loss {r['loss']:.5f} denoise {r['loss_denoise']:.5f} mmd {r['loss_mmd']:.5f}")
    write_json(out / "options.json", {k: dict(zip(("snr_gamma", "dist_match", "mmd"), v)) for k, v in options.items()})
    return results


def record_adamw(out, lora, first, second):
    """Two steps from the recorded (float32) gradients, the second of them times 8: what the optimiser alone does."""
    params = {k: v.double().requires_grad_() for k, v in lora.items()}
    opt = torch.optim.AdamW(params.values(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2)
    result = {}
    for step, g in enumerate((first, second), 1):
        for k, p in params.items():
            p.grad = g["grad." + k].detach().float().double()
        if step == 2:  # so that the clipping of the norm to 1 is in force
            for p in params.values():
                p.grad *= 8
        result[f"norm{step}"] = torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        opt.step()
        result.update({f"step{step}.{k}": p.detach().clone() for k, p in params.items()})
    print(f"  adamw norms {result['norm1']:.4f} {result['norm2']:.4f}")
    write(out / "adamw.safetensors", result)


# ---------------------------------------------------------------------------------------------- UNet
UNET_GRADS = """conv_in.weight conv_in.bias time_embedding.linear_1.weight time_embedding.linear_2.bias
down_blocks.0.resnets.0.norm1.weight down_blocks.0.resnets.0.norm1.bias down_blocks.0.resnets.0.conv1.weight
down_blocks.0.resnets.0.time_emb_proj.weight down_blocks.0.resnets.1.norm2.weight
down_blocks.0.attentions.0.norm.weight down_blocks.0.attentions.0.proj_in.weight
down_blocks.0.attentions.0.transformer_blocks.0.norm1.weight
down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight
down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight
down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight
down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.bias
down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight
down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.bias down_blocks.0.attentions.0.proj_out.weight
down_blocks.0.downsamplers.0.conv.weight down_blocks.1.resnets.0.conv_shortcut.weight
mid_block.resnets.1.conv2.weight mid_block.attentions.0.transformer_blocks.0.norm3.bias
up_blocks.0.upsamplers.0.conv.weight up_blocks.1.resnets.0.conv_shortcut.weight up_blocks.1.resnets.2.norm1.weight
up_blocks.2.attentions.2.transformer_blocks.0.attn1.to_v.weight up_blocks.2.resnets.2.time_emb_proj.bias
conv_norm_out.weight conv_norm_out.bias conv_out.weight conv_out.bias""".split()


def unet_blocks(unet):
    named = {"conv_in": unet.conv_in, "time_embedding": unet.time_embedding, "mid_block": unet.mid_block}
    named.update({f"down_blocks.{i}": b for i, b in enumerate(unet.down_blocks)})
    named.update({f"up_blocks.{i}": b for i, b in enumerate(unet.up_blocks)})
    return named


def record_unet_forward(unet, case, out, blocks=True):
    seen, handles = hook_outputs(unet_blocks(unet))
    with torch.no_grad():
        y = unet(case["sample"].double(), case["timestep"], case["encoder_hidden_states"].double()).sample
    for h in handles:
        h.remove()
    write(out / "in.safetensors", case)
    write(out / "out.safetensors", {"sample": y})
    if blocks:
        write(out / "blocks.safetensors", seen)
    with torch.no_grad():
        single = unet.float()(case["sample"], case["timestep"], case["encoder_hidden_states"]).sample
    unet.double()
    print(f"  {out.name}: float32 differs by {(single - y).abs().max():.1e}; std of outputs", {k: round(v.std().item(), 2) for k, v in seen.items()}, round(y.std().item(), 2))
    return y


def record_unet_full(unet, case, out):
    """All parameters train, plain MSE against the noise: loss, prediction and some gradients."""
    unet.zero_grad()
    scheduler = SD15_SCHEDULER
    a = abar(scheduler)[case["timestep"]].double().view(-1, 1, 1, 1)
    e = case["noise"].double()
    context = case["encoder_hidden_states"].double().requires_grad_()
    sample = (a.sqrt() * case["latents"].double() + (1 - a).sqrt() * e).requires_grad_()
    prediction = unet(sample, case["timestep"], context).sample
    loss = F.mse_loss(prediction, e)
    loss.backward()
    write(out / "full.safetensors", {
        "loss": loss, "prediction": prediction, "grad.sample": sample.grad, "grad.encoder_hidden_states": context.grad,
        **grads(unet, UNET_GRADS)})
    unet.zero_grad()


# ---------------------------------------------------------------------------------------------- VAE
VAE_GRADS = """encoder.conv_in.weight encoder.down_blocks.0.resnets.0.norm1.weight
encoder.down_blocks.0.downsamplers.0.conv.weight encoder.down_blocks.1.resnets.0.conv_shortcut.weight
encoder.mid_block.attentions.0.group_norm.weight encoder.mid_block.attentions.0.to_q.weight
encoder.mid_block.attentions.0.to_k.bias encoder.mid_block.attentions.0.to_out.0.weight encoder.conv_norm_out.bias
encoder.conv_out.weight quant_conv.weight quant_conv.bias post_quant_conv.weight decoder.conv_in.bias
decoder.mid_block.attentions.0.to_v.weight decoder.mid_block.resnets.1.norm2.weight
decoder.up_blocks.0.resnets.0.conv1.weight decoder.up_blocks.0.upsamplers.0.conv.weight
decoder.up_blocks.1.resnets.0.conv_shortcut.weight decoder.conv_norm_out.weight decoder.conv_out.weight
decoder.conv_out.bias""".split()


def vae_moments(vae, x):
    mean, logvar = vae.quant_conv(vae.encoder(x)).chunk(2, dim=1)
    return mean, logvar.clamp(-30, 20)


def record_vae(vae, out, seed):
    randn = draw(seed)
    image, latent, noise = randn(2, 3, 20, 28).clamp(-1, 1), randn(3, 4, 6, 5), randn(2, 4, 10, 14)
    seen, handles = hook_outputs({"encoder.mid_block": vae.encoder.mid_block, "decoder.mid_block": vae.decoder.mid_block})
    with torch.no_grad():
        posterior = vae.encode(image.double()).latent_dist
        mean, logvar = vae_moments(vae, image.double())
        assert torch.equal(posterior.mean, mean) and torch.equal(posterior.logvar, logvar)
        decoded = vae.decode(latent.double()).sample
    for h in handles:
        h.remove()
    write(out / "vae-encoder/in.safetensors", {"sample": image})
    write(out / "vae-encoder/out.safetensors", {"mean": mean, "logvar": logvar})
    write(out / "vae-decoder/in.safetensors", {"latent": latent})
    write(out / "vae-decoder/out.safetensors", {"sample": decoded})
    write(out / "vae-train/blocks.safetensors", seen)

    vae.zero_grad()
    mean, logvar = vae_moments(vae, image.double())
    recon = vae.decode(mean + (0.5 * logvar).exp() * noise.double()).sample
    mse = F.mse_loss(recon, image.double())
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    loss = mse + 1e-3 * kl
    loss.backward()
    write(out / "vae-train/in.safetensors", {"sample": image, "posterior_noise": noise})
    write(out / "vae-train/out.safetensors", {
        "loss": loss, "loss_mse": mse, "loss_kl": kl, "reconstruction": recon, **grads(vae, VAE_GRADS)})
    print(f"  vae: mean std {mean.std():.2f}, logvar {logvar.mean():.2f}+-{logvar.std():.2f}, mse {mse:.3f}, kl {kl:.3f}")
    vae.zero_grad()


# ---------------------------------------------------------------------------------------------- CLIP
def short(name):
    """Published key of a parameter, whichever prefix this transformers uses inside."""
    for p in ("text_model.", "vision_model."):
        name = name.removeprefix(p)
    return name


def record_clip(text, vision, out, seed):
    randn = draw(seed)
    g = torch.Generator().manual_seed(seed + 1)
    ids = torch.full((4, 13), 39)
    ids[:, 0] = 38
    for row, n in enumerate((11, 4, 6, 4)):
        ids[row, 1:1 + n] = torch.randint(0, 38, (n,), generator=g)
    ids[3] = ids[1]  # equal captions are positives of each other
    pixels = randn(4, 3, 12, 12)
    hidden = text(input_ids=ids).last_hidden_state
    embeds = vision(pixel_values=pixels.double()).image_embeds
    write(out / "text-encoder/in.safetensors", {"input_ids": ids})
    write(out / "text-encoder/out.safetensors", {"last_hidden_state": hidden})
    write(out / "image-encoder/in.safetensors", {"pixel_values": pixels})
    write(out / "image-encoder/out.safetensors", {"image_embeds": embeds})

    projection = (randn(20, 20) / math.sqrt(20)).double().requires_grad_()
    scale = torch.tensor(math.log(1 / 0.2)).double().requires_grad_()
    target = (ids[:, None] == ids[None]).all(-1).double()
    target = target / target.sum(1, keepdim=True)
    eos = (ids == 39).int().argmax(1)
    text_embeds = hidden[torch.arange(4), eos] @ projection.T
    logits = scale.exp() * F.normalize(text_embeds, dim=1) @ F.normalize(embeds, dim=1).T
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    text.zero_grad(), vision.zero_grad()
    loss.backward()
    result = {"loss": loss, "logits": logits, "text_embeds": text_embeds, "image_embeds": embeds,
              "grad.text_projection.weight": projection.grad, "grad.logit_scale": scale.grad}
    wanted_text = ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight", "final_layer_norm.weight",
                   "encoder.layers.0.self_attn.q_proj.weight", "encoder.layers.0.self_attn.k_proj.bias",
                   "encoder.layers.1.layer_norm1.weight", "encoder.layers.1.mlp.fc1.weight",
                   "encoder.layers.2.self_attn.out_proj.weight", "encoder.layers.2.mlp.fc2.bias")
    wanted_vision = ("embeddings.class_embedding", "embeddings.patch_embedding.weight",
                     "embeddings.position_embedding.weight", "pre_layrnorm.weight", "post_layernorm.bias",
                     "encoder.layers.0.self_attn.v_proj.weight", "encoder.layers.1.layer_norm2.bias",
                     "encoder.layers.2.mlp.fc1.bias", "encoder.layers.2.mlp.fc2.weight")
    tp = {short(k): p for k, p in text.named_parameters()}
    vp = {short(k): p for k, p in vision.named_parameters()}
    result.update({"grad.text_encoder.text_model." + k: tp[k].grad for k in wanted_text})
    result.update({"grad.image_encoder.vision_model." + k: vp[k].grad for k in wanted_vision})
    result["grad.image_encoder.visual_projection.weight"] = vp["visual_projection.weight"].grad
    write(out / "clip-train/in.safetensors", {
        "input_ids": ids, "pixel_values": pixels, "text_projection.weight": projection, "logit_scale": scale,
        "target": target})
    write(out / "clip-train/out.safetensors", result)
    print(f"  clip: hidden std {hidden.std():.2f}, embeds std {embeds.std():.2f}, loss {loss:.4f}")


# ---------------------------------------------------------------------------------------------- img2img
def record_img2img(unet, vae, text, out, seed):
    """VAE posterior -> latents -> noise -> DDIM with classifier-free guidance -> image, every draw recorded."""
    from diffusers import DDIMScheduler
    randn = draw(seed)
    image = randn(2, 3, 20, 28).clamp(-1, 1)
    posterior_noise, start_noise = randn(2, 4, 10, 14), randn(2, 4, 10, 14)
    ids = torch.full((2, 13), 39)
    negative_ids = ids.clone()
    ids[:, 0] = negative_ids[:, 0] = 38
    ids[0, 1:5], ids[1, 1:4] = torch.tensor([3, 17, 5, 21]), torch.tensor([9, 30, 2])
    negative_ids[:, 1:3] = torch.tensor([11, 7])
    steps, strength, guidance = 20, 0.5, 2.0
    scheduler = DDIMScheduler.from_config(SD15_SCHEDULER)
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps[steps - int(steps * strength):]
    factor = vae.config.scaling_factor
    with torch.no_grad():
        mean, logvar = vae_moments(vae, image.double())
        x0 = factor * (mean + (0.5 * logvar).exp() * posterior_noise.double())
        positive, negative = text(input_ids=ids).last_hidden_state, text(input_ids=negative_ids).last_hidden_state
        x = scheduler.add_noise(x0, start_noise.double(), timesteps[:1].repeat(2))
        states, guided = [], []
        result = {"init_latents": x0, "noisy_latents": x}
        for t in timesteps:
            u, c = unet(torch.cat([x, x]), t.repeat(4), torch.cat([negative, positive])).sample.chunk(2)
            e = u + guidance * (c - u)
            guided.append(e)
            x = scheduler.step(e, t, x).prev_sample
            states.append(x)
        decoded = vae.decode(x / factor).sample
    write(out / "in.safetensors", {
        "image": image, "mean": mean, "logvar": logvar, "posterior_noise": posterior_noise, "noise": start_noise,
        "input_ids": ids, "negative_ids": negative_ids, "encoder_hidden_states": positive,
        "negative_hidden_states": negative})
    write(out / "out.safetensors", {
        **result, "timesteps": timesteps.long(), "noise_prediction": torch.stack(guided), "latents": torch.stack(states),
        "final_latents": x, "sample": decoded})
    write_json(out / "options.json", {"scheduler": "ddim", "steps": steps, "strength": strength, "guidance_scale": guidance, "eta": 0})
    print(f"  img2img: final std {x.std():.3f}, image std {decoded.std():.3f}")


# ---------------------------------------------------------------------------------------------- main
def unet_case(seed, batch, h, w, tokens, dim, timesteps, names=("sample",)):
    randn = draw(seed)
    case = {n: randn(batch, 4, h, w) for n in names}
    case["timestep"] = torch.tensor(timesteps)
    case["encoder_hidden_states"] = randn(batch, tokens, dim)
    return case


def record_odd(root):
    cases = root / "cases"
    model_index(root)
    write_json(root / "scheduler/scheduler_config.json", SD15_SCHEDULER)
    text, vision = build_text(root / "text_encoder", 11, "quick_gelu"), build_vision(root / "image_encoder", 12)
    vae, unet = build_vae(root / "vae", 13), build_unet(root / "unet", 14, **ODD_UNET)
    write_json(root / "feature_extractor/preprocessor_config.json", {
        "crop_size": 12, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 12})
    record_clip(text, vision, cases, 20)
    record_vae(vae, cases, 30)
    case = unet_case(40, 3, 10, 14, 13, 20, [999, 421, 7])
    record_unet_forward(unet, case, cases / "unet")
    record_unet_forward(unet, unet_case(41, 2, 8, 12, 5, 20, [0, 650]), cases / "unet_even", blocks=False)

    lora = make_lora(unet, 50)
    write_lora_files(cases / "lora", lora)
    outputs = {}
    for tag, scale in (("1", 1.0), ("05", 0.5)):
        with_lora, _ = attach(root, lora, scale)
        with torch.no_grad():
            outputs[tag] = with_lora(case["sample"].double(), case["timestep"], case["encoder_hidden_states"].double()).sample
        write(cases / f"lora/out_scale{tag}.safetensors", {"sample": outputs[tag]})
    print(f"  lora moves the output by {(outputs['1'] - outputs['05']).abs().max():.3f}")

    train = unet_case(60, 3, 10, 14, 13, 20, [812, 400, 30], ("latents", "noise"))
    results = record_gradient(root, cases / "gradient", train, lora, {
        "official": (5.0, 0.003, "official"), "rbf": (5.0, 0.5, "rbf"), "off": (0.0, 0.0, "off")})
    record_adamw(cases / "gradient", lora, results["official"], results["rbf"])
    record_unet_full(unet, train, cases / "gradient")
    record_img2img(unet, vae, text, cases / "img2img", 70)


def record_sd2(root):
    """SD 2.x's ways: heads per level, linear projections, gelu text tower, v-prediction."""
    cases = root / "cases"
    model_index(root)
    write_json(root / "scheduler/scheduler_config.json", {**SD15_SCHEDULER, "prediction_type": "v_prediction"})
    text = build_text(root / "text_encoder", 81, "gelu", hidden=12, layers=2, intermediate=20, positions=9, prefix="")
    unet = build_unet(root / "unet", 82, **SD2_UNET)
    ids = torch.tensor([[38, 4, 39, 0, 0, 0, 0, 0, 0], [38, 9, 12, 33, 1, 5, 20, 6, 39]])
    write(cases / "text-encoder/in.safetensors", {"input_ids": ids})
    write(cases / "text-encoder/out.safetensors", {"last_hidden_state": text(input_ids=ids).last_hidden_state})
    record_unet_forward(unet, unet_case(83, 2, 7, 6, 9, 12, [1, 500]), cases / "unet")
    lora = make_lora(unet, 84)
    write(cases / "lora/lora.safetensors", lora)
    train = unet_case(85, 3, 7, 6, 9, 12, [900, 350, 60], ("latents", "noise"))
    record_gradient(root, cases / "gradient", train, lora, {
        "official": (5.0, 0.003, "official"), "rbf": (5.0, 0.5, "rbf")})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--only", choices=["odd", "sd2", "sampler", "resnet"])
    args = parser.parse_args()
    jobs = {"odd": record_odd, "sd2": record_sd2, "sampler": lambda p: record_samplers(p, 100),
            "resnet": lambda p: record_resnet(p, 200)}
    for name, job in jobs.items():
        if args.only in (None, name):
            print(name)
            shutil.rmtree(args.out / name, ignore_errors=True)
            job(args.out / name)


if __name__ == "__main__":
    main()
