#include "tools/common_run.h"

namespace realfake {

void RunOptions::declare(Options& o, const std::string& default_folder, bool resumable) {
  folder = default_folder;
  o.path("output_dir", &folder, "run folder to write");
  if (resumable)
    o.text("resume_from_checkpoint", &resume, "go on from the last checkpoint of the run folder",
           {"latest"});
  o.flag("quiet", &quiet, "no progress on the terminal");
}

ImageSet read_sets(const std::vector<std::filesystem::path>& folders, const std::string& split,
                   Reporter& reporter) {
  LoadOptions options;
  options.split = split;
  options.warn = [&](const std::string& line) { reporter.say("warning: " + line); };
  return load_datasets(folders, options);
}

}  // namespace realfake
