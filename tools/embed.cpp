// `embed`: latents, text states and image embeddings of a data set, computed once.
#include "train/embed.h"

#include <iostream>
#include <memory>

#include "tools/commands.h"
#include "tools/common_run.h"

namespace realfake {
namespace {

struct Embed {
  CommonOptions common;
  RunOptions run;
  EmbedOptions options;
  std::filesystem::path model;
  std::vector<std::filesystem::path> data;
  std::string split = "train";

  void declare(Options& o) {
    o.path("model", &model, "pipeline root (diffusers folder)").required();
    o.paths("train_data_dir", &data, "data sets to embed, joined in order").required();
    o.text("split", &split, "part of a data set that has several");
    run.declare(o, "runs/embed", false);
    o.text("negative_prompt", &options.negative_prompt, "prompt of the unconditional half");
    o.integer("batch_size", &options.batch, 1, 100000, "images at a time");
    common.declare(o, false);
  }

  int go(const Options& o) {
    RunFolder folder(run.folder, o.resolved_toml(), run.display());
    Exec exec = common.open();
    const ImageSet set = read_sets(data, split, folder);
    const std::string key = embedding_key(model, set, options);
    const std::filesystem::path file = run.folder / "embedded.safetensors";
    save_embedded(embed_dataset(exec, model, set, options, folder), exec, file, key);
    folder.finish();
    std::cout << set.size() << " images embedded: " << file.string() << "\n";
    return 0;
  }
};

}  // namespace

Command make_embed_command() {
  auto c = std::make_shared<Embed>();
  return {"embed", "cache latents, text states and image embeddings of a data set",
          "realfake embed --model data/base --train_data_dir data/digits --output_dir runs/embed",
          [c](Options& o) { c->declare(o); }, [c](const Options& o) { return c->go(o); }};
}

}  // namespace realfake
