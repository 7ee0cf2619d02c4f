// `demo`: the whole of Real-Fake on the small real data that ships.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <thread>

#include "tools/commands.h"
#include "tools/demo_jobs.h"
#include "tools/report_page.h"
#include "train/run_folder.h"

namespace realfake {
namespace {

struct DemoCommand {
  CommonOptions common;
  DemoSettings settings;
  std::filesystem::path folder;
  int64_t jobs = 0;
  bool quiet = false, tiny = false;
  std::string token = "off";

  void declare(Options& o) {
    o.path("output_dir", &folder,
           "run folder (default runs/demo; runs/demo-emulated on the emulator)");
    o.integer("seeds", &settings.seeds, 1, 1000,
              "how many seeds: each draws its LoRA, images and classifiers anew");
    o.integer("first_seed", &settings.first_seed, 0, 1000000, "the first of them");
    o.path("model", &settings.model, "base pipeline");
    o.path("data", &settings.data, "real digits (IDX folder with train and test)");
    o.path("printed", &settings.printed, "printed digits of the few-shot comparison");
    o.flag("validation", &settings.validation,
           "train on the first half of the training digits and measure on the second: for choosing "
           "settings");
    o.flag("tiny", &tiny, "one small step of each stage (always so on the emulator)");
    o.number("strength", &settings.generate.strength, 0, 1, "latent prior");
    o.number("guidance_scale", &settings.generate.guidance_scale, 0, 1000,
             "classifier-free guidance");
    o.number("learning_rate", &settings.finetune.learning_rate, 0, 10, "of the LoRA");
    o.integer("finetune_steps", &settings.finetune.max_train_steps, 1, 1000000, "of the LoRA");
    o.integer("rank", &settings.finetune.rank, 1, 4096, "of the LoRA");
    o.text("mmd", &settings.mmd, "matching term of the rows that have one", {"official", "rbf"});
    o.number("dist_match", &settings.dist_match, 0, 1e6, "its factor");
    o.text("guidance_token", &token, "in the full method", {"off", "image"});
    o.integer("classifier_steps", &settings.classifier.max_train_steps, 1, 1000000,
              "of each classifier");
    o.number("few_strength", &settings.few_strength, 0, 1, "latent prior of the few-shot case");
    o.integer("few_finetune_steps", &settings.few_finetune_steps, 1, 1000000,
              "LoRA steps of the few-shot case");
    o.integer("few_classifier_steps", &settings.few_classifier_steps, 1, 1000000,
              "classifier steps of the few-shot case");
    o.texts("rows", &settings.rows, "only these rows of the table, and what they need");
    o.integer("versions", &settings.versions, 1, 100, "the largest N of Nx");
    o.integer("jobs", &jobs, 0, 64, "jobs at a time; 0: one per processor");
    o.flag("quiet", &quiet, "only the table");
    common.declare(o, false);
  }

  int go(const Options& o) {
    const Device device = parse_device(common.device);
    if (device == Device::emulated) tiny = true;
    if (tiny) settings.make_tiny();
    settings.token_in_method = token == "image";
    if (folder.empty())
      folder = tiny                  ? "runs/demo-" + common.device
               : settings.validation ? "runs/validation"
                                     : "runs/demo";
    catch_stop_signals();
    const auto start = std::chrono::steady_clock::now();
    const FolderLock lock([&] {
      std::filesystem::create_directories(folder);
      return folder;
    }());
    write_file_atomic(folder / "config.toml", o.resolved_toml());

    JobGraphOptions how;
    how.device = device;
    how.quiet = quiet;
    const int processors = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    how.workers = jobs > 0 ? static_cast<int>(jobs) : device == Device::cuda ? 1 : processors;
    how.threads_per_job = common.threads > 0 ? static_cast<int>(common.threads) : 1;
    JobGraph graph(folder, how);
    const Demo demo = add_demo_jobs(graph, settings);
    write_file_atomic(folder / "commands.sh", graph.script());
    graph.run();

    const double wall =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    Json results = demo_results(graph, demo, settings, wall);
    const std::filesystem::path file = folder / "results.json";
    if (graph.reused() > 0 && std::filesystem::exists(file)) {
      // Times of a run that only continued say nothing; those of the run that did the work stay.
      const Json before = read_json(file);
      if (before.contains("accuracy") && before["accuracy"] == results["accuracy"])
        for (const char* key : {"seconds", "wall_seconds"})
          if (before.contains(key)) results[key] = before[key];
    }
    write_json_atomic(file, results);
    write_report(folder);
    std::cout << "\n" << demo_table(results);
    if (tiny) std::cout << "  (one small step of each stage: the figures mean nothing)\n";
    std::printf("\n%d jobs done before, the rest now in %.0f s\npage:    %s\nresults: %s\n",
                graph.reused(), wall, (folder / "report.html").c_str(), file.c_str());
    return 0;
  }
};

}  // namespace

Command make_demo_command() {
  auto c = std::make_shared<DemoCommand>();
  return {"demo", "the whole pipeline on the digits that ship", "realfake demo --seeds 3",
          [c](Options& o) { c->declare(o); }, [c](const Options& o) { return c->go(o); }};
}

}  // namespace realfake
