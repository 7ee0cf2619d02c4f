"""Recordings of the noise schedulers alone: random network answers in, the states after each step out."""
import torch

from record_networks import SD15_SCHEDULER, draw, write, write_json


def run_sampler(scheduler, steps, strength, latents, outputs, **kwargs):
    """The img2img loop of diffusers from the state at the first step that runs."""
    scheduler.set_timesteps(steps)
    start = max(steps - min(int(steps * strength), steps), 0)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start * scheduler.order)
    timesteps = scheduler.timesteps[start * scheduler.order:]
    assert len(outputs) == len(timesteps)
    noise = kwargs.pop("variance_noise", None)
    states = []
    for i, t in enumerate(timesteps):
        extra = dict(kwargs)
        if noise is not None:
            extra["variance_noise"] = noise[i]
        latents = scheduler.step(outputs[i], t, latents, **extra).prev_sample
        states.append(latents)
    return timesteps.long(), torch.stack(states)


def record_samplers(out, seed):
    import diffusers
    import diffusers.schedulers.scheduling_ddpm as ddpm
    spaced = lambda **k: {**SD15_SCHEDULER, **k}
    cases = []  # name, scheduler option, class, config, steps, strength, eta
    for strength in (1.0, 0.75, 0.5):
        tag = str(strength).replace(".", "")
        cases.append((f"ddim_{tag}", "ddim", "DDIMScheduler", spaced(), 20, strength, 0.0))
        cases.append((f"ddim_{tag}_eta05", "ddim", "DDIMScheduler", spaced(), 20, strength, 0.5))
        cases.append((f"unipc_sigma_min_{tag}", "unipc", "UniPCMultistepScheduler",
                      spaced(final_sigmas_type="sigma_min", timestep_spacing="linspace"), 12, strength, 0.0))
        cases.append((f"unipc_zero_{tag}", "unipc", "UniPCMultistepScheduler",
                      spaced(final_sigmas_type="zero", timestep_spacing="linspace"), 12, strength, 0.0))
        cases.append((f"dpmpp_zero_{tag}", "dpm++", "DPMSolverMultistepScheduler",
                      spaced(final_sigmas_type="zero", timestep_spacing="linspace"), 12, strength, 0.0))
        cases.append((f"dpmpp_sigma_min_{tag}", "dpm++", "DPMSolverMultistepScheduler",
                      spaced(final_sigmas_type="sigma_min", timestep_spacing="linspace"), 20, strength, 0.0))
        cases.append((f"ddpm_{tag}", "ddpm", "DDPMScheduler", spaced(), 12, strength, 0.0))
    cases.append(("ddim_trailing_10", "ddim", "DDIMScheduler", spaced(timestep_spacing="trailing"), 7, 1.0, 0.0))
    cases.append(("ddim_linspace_10", "ddim", "DDIMScheduler", spaced(timestep_spacing="linspace"), 7, 1.0, 0.0))
    cases.append(("ddim_v_075", "ddim", "DDIMScheduler", spaced(prediction_type="v_prediction"), 20, 0.75, 0.0))
    cases.append(("unipc_v_10", "unipc", "UniPCMultistepScheduler",
                  spaced(prediction_type="v_prediction", final_sigmas_type="sigma_min", timestep_spacing="linspace"), 12, 1.0, 0.0))
    cases.append(("unipc_leading_075", "unipc", "UniPCMultistepScheduler",
                  spaced(final_sigmas_type="zero", timestep_spacing="leading"), 12, 0.75, 0.0))
    index = {}
    for k, (name, option, cls, config, steps, strength, eta) in enumerate(cases):
        randn = draw(seed + k)
        n = min(int(steps * strength), steps)
        latents, outputs, noise = randn(2, 4, 5, 3), randn(n, 2, 4, 5, 3), randn(n, 2, 4, 5, 3)
        scheduler = getattr(diffusers, cls).from_config(config)
        kwargs, given = {}, {"latents": latents, "model_output": outputs}
        if cls == "DDIMScheduler":
            kwargs["eta"] = eta
            if eta > 0:
                kwargs["variance_noise"] = noise
                given["variance_noise"] = noise
        if cls == "DDPMScheduler":  # it draws its own noise: hand it ours, step by step (none at t = 0)
            given["variance_noise"] = noise
            queue = iter(noise)
            ddpm.randn_tensor = lambda *a, **b: next(queue)
        timesteps, states = run_sampler(scheduler, steps, strength, latents, outputs, **kwargs)
        write(out / f"{name}.in.safetensors", given)
        write(out / f"{name}.out.safetensors", {"timesteps": timesteps, "latents": states})
        config_name = "scheduler_" + "_".join([config.get("prediction_type", "epsilon"), config.get("timestep_spacing", "published"),
                                               config.get("final_sigmas_type", "default")]) + ".json"
        write_json(out / config_name, config)
        index[name] = {"scheduler": option, "scheduler_config": config_name, "steps": steps, "strength": strength, "eta": eta}
        print(f"  {name}: t {timesteps[0].item()}..{timesteps[-1].item()} ({len(timesteps)}), final std {states[-1].std():.3f}")
    write_json(out / "cases.json", index)
