#include "train/finetune.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/sha256.h"
#include "kernels/diffusion.h"
#include "kernels/random.h"
#include "model/lora.h"
#include "train/loop.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

// What a resumed run must share with the run that wrote the checkpoint.
std::string settings_text(const FinetuneOptions& o, const std::string& data_hash) {
  return Json{{"rank", o.rank},
              {"learning_rate", o.learning_rate},
              {"lr_scheduler", o.lr_scheduler},
              {"lr_warmup_steps", o.lr_warmup_steps},
              {"max_train_steps", o.max_train_steps},
              {"train_batch_size", o.train_batch_size},
              {"weight_decay", o.weight_decay},
              {"max_grad_norm", o.max_grad_norm},
              {"snr_gamma", o.loss.snr_gamma},
              {"dist_match", o.loss.dist_match},
              {"mmd", static_cast<int>(o.loss.matching)},
              {"batch_by", o.batch_by},
              {"guidance_token", static_cast<int>(o.guidance_token)},
              {"seed", o.seed},
              {"data", data_hash}}
      .dump();
}

// The data, the base model and its noise schedule.
std::string hash_of(Exec& exec, const Embedded& e, const fs::path& pipeline) {
  const fs::path schedule = pipeline / "scheduler" / "scheduler_config.json";
  return sha256_hex(concat(data_digest(exec, e), component_digest(pipeline / "unet"),
                           sha256_of_file(schedule),
                           sha256_of_file(pipeline / "vae" / "config.json")))
      .substr(0, 16);
}

}  // namespace

std::vector<int64_t> batch_indices(const std::vector<int64_t>& labels, int64_t classes,
                                   bool by_class, int64_t batch, uint64_t seed, int64_t step) {
  const auto n = static_cast<int64_t>(labels.size());
  std::vector<int64_t> pool;
  if (by_class) {
    // One class a batch, classes in turn in an order drawn anew for each round.
    const std::vector<int64_t> order =
        permutation(classes, seed, Stream::user, static_cast<uint64_t>(step / classes));
    const int64_t wanted = order[static_cast<size_t>(step % classes)];
    for (int64_t i = 0; i < n; ++i)
      if (labels[static_cast<size_t>(i)] == wanted) pool.push_back(i);
    if (pool.empty()) return batch_indices(labels, classes, false, batch, seed, step);
    std::vector<int64_t> out;
    Philox random(seed, Stream::shuffle, static_cast<uint64_t>(step));
    if (static_cast<int64_t>(pool.size()) >= batch) {  // without replacement
      for (int64_t i = 0; i < batch; ++i)
        std::swap(pool[static_cast<size_t>(i)],
                  pool[static_cast<size_t>(i) +
                       random.below(static_cast<uint32_t>(static_cast<int64_t>(pool.size()) - i))]);
      out.assign(pool.begin(), pool.begin() + batch);
    } else {
      for (int64_t i = 0; i < batch; ++i)
        out.push_back(pool[random.below(static_cast<uint32_t>(pool.size()))]);
    }
    return out;
  }
  // Epochs of a fresh permutation each, cut into batches without regard to the ends.
  std::vector<int64_t> out;
  int64_t epoch = -1;
  for (int64_t i = step * batch; i < (step + 1) * batch; ++i) {
    if (i / n != epoch) {
      epoch = i / n;
      pool = permutation(n, seed, Stream::shuffle, static_cast<uint64_t>(epoch));
    }
    out.push_back(pool[static_cast<size_t>(i % n)]);
  }
  return out;
}

FinetuneResult finetune(Exec& exec, const fs::path& pipeline, const Embedded& data,
                        const FinetuneOptions& o, const fs::path& folder, bool resume,
                        Reporter& reporter) {
  if (o.loss.matching == Matching::rbf && o.train_batch_size < 2)
    throw UsageError("--mmd rbf needs --train_batch_size of at least 2");
  if (o.lr_scheduler != "constant" && o.lr_scheduler != "cosine")
    throw UsageError("--lr_scheduler is '" + o.lr_scheduler + "', expected constant or cosine");
  if (o.batch_by != "random" && o.batch_by != "class")
    throw UsageError("--batch_by is '" + o.batch_by + "', expected random or class");
  const auto unet = load_unet(exec, pipeline / "unet");
  const NoiseSchedule schedule = load_schedule(pipeline);
  const auto vae_config_json = read_json(pipeline / "vae" / "config.json");
  const double factor =
      VaeConfig::read(JsonReader(vae_config_json, (pipeline / "vae" / "config.json").string()))
          .scaling_factor;
  Lora lora(exec, *unet->net, o.rank, o.seed);
  lora.attach(1);
  lora.parameters().set_trainable(true);
  const std::vector<Param> params = lora.parameters().trainable();
  AdamW optimizer(exec, params, {.lr = o.learning_rate, .weight_decay = o.weight_decay});
  const Checkpoint checkpoint(folder, settings_text(o, hash_of(exec, data, pipeline)));
  const Tensor class_means =
      o.guidance_token == GuidanceToken::class_mean ? class_mean_embeds(exec, data) : Tensor();
  const int64_t b = o.train_batch_size, classes = static_cast<int64_t>(data.classes.size());
  const Shape latent{b, data.moments.dim(1), data.moments.dim(2), data.moments.dim(3) / 2};
  FinetuneResult result;
  int64_t averaged = 0;
  const auto rate = [&](int64_t step) {
    return o.lr_scheduler == "cosine"
               ? cosine_rate(o.learning_rate, step, o.max_train_steps, o.lr_warmup_steps)
               : constant_rate(o.learning_rate, step, o.lr_warmup_steps);
  };
  const auto train_step = [&](Tape& tape, int64_t step) -> LoopStep {
    const std::vector<int64_t> samples =
        batch_indices(data.labels, classes, o.batch_by == "class", b, o.seed, step);
    const auto first = static_cast<uint64_t>(step * b);
    const Tensor posterior = exec.empty(latent), noise = exec.empty(latent),
                 latents = exec.empty(latent);
    random_normal(exec, posterior, o.seed, Stream::posterior, first);
    random_normal(exec, noise, o.seed, Stream::train_noise, first);
    posterior_sample_forward(exec, latents, take_rows(exec, data.moments, samples), posterior,
                             factor);
    std::vector<int64_t> timesteps, prompts;
    for (int64_t i = 0; i < b; ++i) {
      Philox random(o.seed, Stream::timestep, first + static_cast<uint64_t>(i));
      timesteps.push_back(random.below(static_cast<uint32_t>(schedule.steps())));
      prompts.push_back(data.prompt_of[static_cast<size_t>(samples[static_cast<size_t>(i)])]);
    }
    const Tensor context = take_rows(exec, data.text_states, prompts);
    if (o.guidance_token != GuidanceToken::off)
      replace_last_token(exec, context,
                         guidance_rows(exec, data, o.guidance_token, class_means, samples));

    const DiffusionLoss loss =
        diffusion_loss(tape, *unet->net, schedule, latents, noise, timesteps, context, o.loss);
    const double denoise = exec.scalar(loss.denoise.value());
    const double match = loss.match.defined() ? exec.scalar(loss.match.value()) : 0;
    if (step >= o.max_train_steps - std::max<int64_t>(1, o.max_train_steps / 10)) {
      result.loss += exec.scalar(loss.total.value());
      result.denoise += denoise;
      result.match += match;
      ++averaged;
    }
    return {loss.total, {{"loss_denoise", denoise}, {"loss_mmd", match}}};
  };
  run_loop(exec,
           {.stage = "finetune",
            .steps = o.max_train_steps,
            .clip = o.max_grad_norm,
            .checkpoint_every = o.checkpointing_steps,
            .stop_after = o.stop_after},
           params, optimizer, nullptr, &checkpoint, resume, reporter, rate, train_step);
  if (averaged) {
    result.loss /= static_cast<double>(averaged);
    result.denoise /= static_cast<double>(averaged);
    result.match /= static_cast<double>(averaged);
  }
  result.steps = o.max_train_steps;
  lora.save(folder / "pytorch_lora_weights.safetensors");
  checkpoint.remove();
  return result;
}

}  // namespace realfake
