#pragma once
// Labelled pictures in memory, and the folders they come from.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/image.h"

namespace realfake {

struct ImageSet {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;        // (N,H,W,C)
  std::vector<int64_t> labels;        // (N)
  std::vector<std::string> classes;   // label -> name
  std::vector<std::string> captions;  // (N), as the folder gives them; empty when it has none
  std::vector<std::string> names;     // (N), where each picture comes from; may be empty

  int64_t size() const { return static_cast<int64_t>(labels.size()); }
  int64_t pixels_per_image() const { return height * width * channels; }
  ImageSet subset(const std::vector<int64_t>& indices) const;
  // Adds the other set's samples; shapes and classes must agree (InputError naming `other_name`).
  void append(const ImageSet& other, const std::string& this_name, const std::string& other_name);
};

struct LoadOptions {
  std::string split =
      "train";       // prefix of IDX files, or a sub-folder where the root has one of that name
  int channels = 0;  // 1 or 3; 0 keeps grey when all pictures are grey
  int64_t size = 0;  // resize the shorter side and cut the middle square; 0: all must have one size
  bool verify = true;     // check the hashes of a manifest
  bool skip_bad = false;  // leave bad pictures out, up to skip_limit of them, with a warning
  double skip_limit = 0.01;
  std::function<void(const std::string&)> warn = {};
};

// An IDX pair of u8 grey images (N,H,W) and labels (N). channels 3 repeats the grey.
ImageSet load_idx(const std::filesystem::path& images, const std::filesystem::path& labels,
                  int channels = 1);
// FOLDER/SPLIT-images-idx3-ubyte and -labels-idx1-ubyte, classes.txt, and SPLIT-captions.txt where
// there are captions.
void write_idx(const std::filesystem::path& folder, const std::string& split, const ImageSet& set);

// One folder, its kind found by what is in it:
//   manifest*.jsonl           written by DatasetWriter
//   SPLIT-images-idx3-ubyte   IDX, with classes.txt when there is one
//   else                      class = sub-folder, in plain string order, unless classes.txt gives
//   the order;
//                             captions from metadata.jsonl or captions.jsonl
// All bad pictures are reported in one InputError.
ImageSet load_dataset(const std::filesystem::path& folder, const LoadOptions& options = {});
// The union; every root must number its classes alike.
ImageSet load_datasets(const std::vector<std::filesystem::path>& folders,
                       const LoadOptions& options = {});

}  // namespace realfake
