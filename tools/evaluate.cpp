// `evaluate`: a classifier on real images.
#include <cstdio>
#include <iostream>
#include <memory>

#include "data/captions.h"
#include "tools/commands.h"
#include "tools/common_run.h"
#include "train/classifier.h"

namespace realfake {
namespace {

struct Evaluate {
  CommonOptions common;
  std::filesystem::path model, json;
  std::vector<std::filesystem::path> data;
  std::string split = "test", normalization = "symmetric";

  void declare(Options& o) {
    o.path("model", &model, "folder of `train`, or a ResNet's model.safetensors").required();
    o.paths("data_dir", &data, "data sets to measure on, joined").required();
    o.text("split", &split, "part of a data set that has several");
    o.text("normalization", &normalization, "of the pixels, as in training",
           {"symmetric", "imagenet", "clip"});
    o.path("json", &json, "also write the result here");
    common.declare(o, false);
  }

  int go(const Options&) {
    Exec exec = common.open();
    SilentReporter reporter;
    const ImageSet set = read_sets(data, split, reporter);
    const std::filesystem::path folder =
        std::filesystem::is_directory(model) ? model : model.parent_path();
    const std::vector<std::string> classes = classes_of_folder(folder);
    if (!classes.empty())
      require_same_classes(classes, folder.string(), set.classes, data.front().string());
    const auto net = load_resnet(exec, model);
    const Evaluation e = evaluate_classifier(exec, *net->net, set, normalization);
    std::printf("top-1 %.2f %%   top-5 %.2f %%   loss %.4f   calibration error %.4f   images %ld\n",
                e.top1, e.top5, e.loss, e.calibration_error, static_cast<long>(e.count));
    Json classes_json = Json::array();
    for (const ClassAccuracy& c : e.classes) {
      const double percent =
          c.count ? 100.0 * static_cast<double>(c.correct) / static_cast<double>(c.count) : 0;
      std::printf("  %-16s %6.2f %%  (%ld of %ld)\n", printable(c.name).c_str(), percent,
                  static_cast<long>(c.correct), static_cast<long>(c.count));
      classes_json.push_back({{"name", c.name}, {"count", c.count}, {"correct", c.correct}});
    }
    if (!json.empty())
      write_json_atomic(json, {{"count", e.count},
                               {"top1", e.top1},
                               {"top5", e.top5},
                               {"loss", e.loss},
                               {"calibration_error", e.calibration_error},
                               {"classes", classes_json}});
    return 0;
  }
};

}  // namespace

Command make_evaluate_command() {
  auto c = std::make_shared<Evaluate>();
  return {"evaluate", "measure a classifier on real images",
          "realfake evaluate --model runs/classifier --data_dir data/digits",
          [c](Options& o) { c->declare(o); }, [c](const Options& o) { return c->go(o); }};
}

}  // namespace realfake
