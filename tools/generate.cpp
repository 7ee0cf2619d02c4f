// `generate`: the synthetic training set.
#include "train/generate.h"

#include <cstdio>
#include <iostream>
#include <memory>

#include "tools/commands.h"
#include "tools/common_run.h"

namespace realfake {
namespace {

struct Generate {
  CommonOptions common;
  RunOptions run;
  GenerateOptions options;
  std::filesystem::path model, embedded, lora;
  std::string token = "off", shard = "0/1";

  void declare(Options& o) {
    o.path("model", &model, "pipeline root (diffusers folder)").required();
    o.path("embedded", &embedded, "embedded.safetensors of `embed`: labels, prompts, start latents")
        .required();
    run.declare(o, "runs/generate", false);
    o.path("lora", &lora, "LoRA file; without it the base model");
    o.number("lora_scale", &options.lora_scale, -100, 100, "times alpha / rank");
    o.integer("num_inference_steps", &options.num_inference_steps, 1, 100000,
              "DDIM steps before strength");
    o.number("strength", &options.strength, 0, 1,
             "latent prior: share of the steps that run from the real latent");
    o.flag("from_noise", &options.from_noise, "start from noise, not from real latents");
    o.number("guidance_scale", &options.guidance_scale, 0, 1000,
             "classifier-free guidance; 1: none");
    o.number("eta", &options.eta, 0, 1, "DDIM stochasticity");
    o.text("guidance_token", &token, "what replaces the last text token",
           {"off", "image", "class-mean"});
    o.flag("token_both", &options.token_both, "replace it in the negative prompt too");
    o.integer("versions", &options.versions, 1, 1000000, "N of Nx: versions of each real image");
    o.integer("limit", &options.limit, 0, 1000000000, "at most this many images; 0: all");
    o.integer("batch_size", &options.batch_size, 1, 100000, "images at a time");
    o.text("shard", &shard, "i/n: make the i-th of n disjoint parts");
    o.flag("grey", &options.grey, "write grey images");
    common.declare(o);
  }

  int go(const Options& o) {
    int64_t index = 0, count = 0;
    char rest = 0;
    if (std::sscanf(shard.c_str(), "%ld/%ld%c", &index, &count, &rest) != 2 || index < 0 ||
        index >= count)
      throw UsageError("--shard is '" + shard + "', expected i/n with 0 <= i < n");
    options.shard = index;
    options.shards = count;
    options.lora = lora.string();
    options.guidance_token = parse_guidance_token(token);
    options.seed = static_cast<uint64_t>(common.seed);
    // Shards share the folder of images and keep run folders of their own.
    const std::filesystem::path own =
        count == 1 ? run.folder : run.folder / concat("shard-", index, "-of-", count);
    RunFolder folder(own, o.resolved_toml(), run.display());
    Exec exec = common.open();
    const Embedded data = load_embedded(exec, embedded, "");
    require_fits(data, model, embedded.string());
    const GenerateResult r = generate(exec, model, data, options, run.folder, folder);
    folder.finish();
    std::cout << r.written << " images written, " << r.present
              << " were there: " << run.folder.string() << "\n";
    return 0;
  }
};

}  // namespace

Command make_generate_command() {
  auto c = std::make_shared<Generate>();
  return {"generate", "make the synthetic training set",
          "realfake generate --model data/base --embedded runs/embed/embedded.safetensors "
          "--lora runs/lora/pytorch_lora_weights.safetensors --output_dir runs/realfake_1x",
          [c](Options& o) { c->declare(o); }, [c](const Options& o) { return c->go(o); }};
}

}  // namespace realfake
