// `pretrain`: the tiny base pipeline, from printed digits.
#include "train/pretrain.h"

#include <iostream>
#include <memory>

#include "tools/commands.h"
#include "tools/common_run.h"

namespace realfake {
namespace {

struct Pretrain {
  CommonOptions common;
  RunOptions run;
  PretrainOptions options;
  std::vector<std::filesystem::path> fonts;
  std::filesystem::path printed_set;

  void declare(Options& o) {
    run.declare(o, "runs/base", true);
    o.paths("fonts", &fonts,
            "folders with .ttf and .otf files (default: those of the system; `make fonts`)");
    o.integer("vae_steps", &options.vae_steps, 1, 1000000000, "steps of the autoencoder");
    o.integer("clip_steps", &options.clip_steps, 1, 1000000000, "steps of the CLIP pair");
    o.integer("unet_steps", &options.unet_steps, 1, 1000000000, "steps of the UNet on plain print");
    o.integer("unet_rich_steps", &options.unet_rich_steps, 1, 1000000000,
              "further steps on distorted print");
    o.integer("train_batch_size", &options.batch, 2, 100000, "digits a step (CLIP, UNet)");
    o.integer("vae_batch_size", &options.vae_batch, 1, 100000, "digits a step (autoencoder)");
    o.integer("latents", &options.latents, 1, 100000000, "cached digits of each UNet stage");
    o.number("token_probability", &options.token_probability, 0, 1,
             "share of samples whose last text token is the image embedding");
    o.integer("check_images", &options.check_images, 10, 5000,
              "digits generated and recognised at the end");
    o.integer("classifier_steps", &options.classifier_steps, 1, 1000000,
              "steps of the classifier that judges");
    o.integer("checkpointing_steps", &options.checkpointing_steps, 0, 1000000000,
              "0: only when stopped");
    o.path("printed_set", &printed_set,
           "also write the small printed set that ships to this folder");
    common.declare(o);
  }

  int go(const Options& o) {
    RunFolder folder(run.folder, o.resolved_toml(), run.display());
    options.seed = static_cast<uint64_t>(common.seed);
    Exec exec = common.open();
    const std::vector<Face> faces = fonts.empty() ? load_faces() : load_faces(fonts);
    folder.say(concat(faces.size(), " faces"));
    if (!printed_set.empty()) write_printed_set(printed_set, faces);
    const PretrainResult r =
        pretrain(exec, faces, options, run.folder / "pipeline", run.resumes(), folder);
    folder.finish();
    std::cout << "pipeline: " << (run.folder / "pipeline").string()
              << "\nreconstruction mse: " << r.vae_mse << "\nrecognised: " << r.recognised_percent
              << " %\n";
    return 0;
  }
};

}  // namespace

Command make_pretrain_command() {
  auto c = std::make_shared<Pretrain>();
  return {"pretrain", "make the tiny base pipeline from printed digits",
          "realfake pretrain --output_dir runs/base", [c](Options& o) { c->declare(o); },
          [c](const Options& o) { return c->go(o); }};
}

}  // namespace realfake
