#pragma once
// What the commands that write a run folder share.
#include <filesystem>
#include <string>

#include "data/dataset.h"
#include "tools/cli.h"
#include "train/run_folder.h"

namespace realfake {

// --output_dir and --resume_from_checkpoint, spelled as diffusers' scripts spell them.
struct RunOptions {
  std::filesystem::path folder;
  std::string resume;  // "", "latest"
  bool quiet = false;
  void declare(Options& options, const std::string& default_folder, bool resumable);
  bool resumes() const { return resume == "latest"; }
  Display display() const { return quiet ? Display::silent : Display::automatic; }
};

// --train_data_dir etc.: the sets of one option, read and joined.
ImageSet read_sets(const std::vector<std::filesystem::path>& folders, const std::string& split,
                   Reporter& reporter);

}  // namespace realfake
