"""What the recordings are made of: random weights, the model folders, LoRA files, safetensors writing."""
import json
import math

import torch
import torch.nn as nn
from safetensors.torch import load_file, save_file

SD15_SCHEDULER = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
    "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
    "clip_sample": False,
}


def draw(seed):
    g = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=g)


RESIDUAL = ("conv2", "proj_out", "to_out.0", "ff.net.2", "mlp.fc2", "self_attn.out_proj")  # ends of skipped branches


def redraw(module, seed):
    """Random float32 values for every parameter: norms far from (1, 0), biases not 0, activations O(1)."""
    randn = draw(seed)
    norms = (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm2d)
    with torch.no_grad():
        for name, m in module.named_modules():
            for key, p in m.named_parameters(recurse=False):
                r = randn(*p.shape)
                if isinstance(m, norms):
                    v = 1 + 0.3 * r if key == "weight" else 0.2 * r
                elif isinstance(m, nn.Embedding) or key == "class_embedding":
                    v = 0.7 * r
                elif key == "bias":
                    v = 0.1 * r
                else:
                    v = r * (0.6 if name.endswith(RESIDUAL) else 1.2) / math.sqrt(p[0].numel())
                p.copy_(v)
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.copy_(0.3 * randn(m.num_features))
                m.running_var.copy_((0.8 + 0.3 * randn(m.num_features)).clamp(min=0.3))
                m.num_batches_tracked.fill_(7)
    return module


def write(path, tensors, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    out = {}
    for name, t in tensors.items():
        t = t.detach()
        if t.is_floating_point():
            t = t.float()
            assert torch.isfinite(t).all(), f"{path}: {name} is not finite"
        out[name] = t.contiguous().clone()
    save_file(out, path, metadata or {"format": "pt"})
    path.chmod(0o644)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def hook_outputs(named):
    """{name: module} -> a dict that a forward fills with the modules' (first) outputs."""
    seen, handles = {}, []
    for name, m in named.items():
        def keep(_m, _i, o, name=name):
            seen[name] = o[0] if isinstance(o, tuple) else o
        handles.append(m.register_forward_hook(keep))
    return seen, handles


def grads(module, names, prefix="grad."):
    params = dict(module.named_parameters())
    return {prefix + n: params[n].grad for n in names}


def abar(scheduler_config):
    from diffusers import DDPMScheduler
    return DDPMScheduler.from_config(scheduler_config).alphas_cumprod

# ---------------------------------------------------------------------------------------------- builders
def save_clip(model, folder, prefix):
    """Published files have the keys of either style (SD 1.5: `text_model.`): write the one asked for."""
    model.save_pretrained(folder)
    state = {k: v for k, v in load_file(folder / "model.safetensors").items()}
    if prefix == "text_model." and not any(k.startswith(prefix) for k in state):
        state = {prefix + k: v for k, v in state.items()}
    elif prefix == "":
        state = {k.removeprefix("text_model."): v for k, v in state.items()}
    write(folder / "model.safetensors", state)


def build_text(folder, seed, act, hidden=20, layers=3, intermediate=36, positions=13,
               prefix="text_model."):
    from transformers import CLIPTextConfig, CLIPTextModel
    config = CLIPTextConfig(
        vocab_size=40, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=4, max_position_embeddings=positions, hidden_act=act, projection_dim=20,
        bos_token_id=38, eos_token_id=39, pad_token_id=39)
    model = redraw(CLIPTextModel(config), seed)
    save_clip(model, folder, prefix)
    return model.eval().double()


def build_vision(folder, seed):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    config = CLIPVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, image_size=12,
        patch_size=4, projection_dim=20, hidden_act="quick_gelu")
    model = redraw(CLIPVisionModelWithProjection(config), seed)
    save_clip(model, folder, "vision_model.")
    return model.eval().double()


def save_diffusers(model, folder):
    model.save_pretrained(folder)
    (folder / "diffusion_pytorch_model.safetensors").chmod(0o644)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {k: v for k, v in config.items() if k != "_name_or_path"})


def build_vae(folder, seed):
    from diffusers import AutoencoderKL
    model = AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(16, 24), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4, sample_size=20, scaling_factor=0.71)
    save_diffusers(redraw(model, seed), folder)
    return model.eval().double()


def build_unet(folder, seed, **config):
    from diffusers import UNet2DConditionModel
    model = UNet2DConditionModel(in_channels=4, out_channels=4, norm_num_groups=4, **config)
    save_diffusers(redraw(model, seed), folder)
    return model.eval().double()


ODD_UNET = dict(
    block_out_channels=(12, 20, 24), layers_per_block=2, attention_head_dim=4, cross_attention_dim=20,
    sample_size=10,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"))
SD2_UNET = dict(
    block_out_channels=(8, 16), layers_per_block=1, attention_head_dim=[1, 2], cross_attention_dim=12,
    use_linear_projection=True, sample_size=6,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))


def model_index(folder):
    write_json(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0",
        "scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})

# ---------------------------------------------------------------------------------------------- LoRA
def make_lora(unet, seed, rank=3):
    """Dialect D (ecosystem.md 2.4) for q, k, v, out of every attention; lora_B is not 0."""
    randn = draw(seed)
    lora = {}
    for name, m in unet.named_modules():
        if isinstance(m, nn.Linear) and name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            lora[f"unet.{name}.lora_A.weight"] = randn(rank, m.in_features) / math.sqrt(m.in_features)
            lora[f"unet.{name}.lora_B.weight"] = 0.4 * randn(m.out_features, rank)
    return lora


def attach(folder, lora, scale=1.0):
    """The UNet of `folder` with the LoRA loaded through diffusers and peft, in float64, and its LoRA parameters."""
    from diffusers import UNet2DConditionModel
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    unet.load_lora_adapter(dict(lora), prefix="unet", adapter_name="default")
    unet = unet.double().eval()
    unet.set_adapters(["default"], [scale])
    params = {}
    for name, p in unet.named_parameters():
        p.requires_grad_("lora_" in name)
        if "lora_" in name:
            params["unet." + name.replace(".default", "")] = p
    assert set(params) == set(lora), set(params) ^ set(lora)
    for name in lora:
        assert torch.equal(params[name].float(), lora[name]), name
    return unet, params


def write_lora_files(folder, lora):
    """The same factors as PEFT without alpha, as PEFT with alpha in the metadata, and as kohya with alpha."""
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig
    rank = next(iter(lora.values())).shape[0]
    write(folder / "lora.safetensors", lora)
    bare = {k.removeprefix("unet."): v for k, v in lora.items()}
    config = LoraConfig(r=rank, lora_alpha=rank / 2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]).to_dict()
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=bare, weight_name="lora_alpha.safetensors",
        unet_lora_adapter_metadata={k: sorted(v) if isinstance(v, set) else v for k, v in config.items()})
    (folder / "lora_alpha.safetensors").chmod(0o644)
    kohya = {}
    for name, v in lora.items():
        module, part, _ = name.removeprefix("unet.").rsplit(".", 2)
        key = "lora_unet_" + module.replace(".", "_")
        kohya[f"{key}.{'lora_down' if part == 'lora_A' else 'lora_up'}.weight"] = v
        kohya[key + ".alpha"] = torch.tensor(rank / 2)
    write(folder / "lora_kohya.safetensors", kohya,
          {"ss_network_dim": str(rank), "ss_network_alpha": str(rank / 2), "ss_network_module": "networks.lora"})
