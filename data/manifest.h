#pragma once
// The folder `generate` writes: images/NNNNNN.png, classes.txt (+ classes.sha256) and
// manifest.jsonl, one line a picture:
//   {"index":7,"file":"images/000007.png","label":3,"class":"three","prompt":"...","seed":0,"sha256":"..."}
// A picture is done when its line is whole and its file is there. Shards write
// manifest-I-of-N.jsonl of their own.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "data/image.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"

namespace realfake {

struct ManifestLine {
  int64_t index = 0, label = 0;
  std::string file, prompt, sha256;
};

bool has_manifest(const std::filesystem::path& folder);
// The lines of all manifest*.jsonl, in order of index; a torn last line is left out. InputError on
// doubled indices, paths that leave the folder, and labels or names that disagree with the classes.
std::vector<ManifestLine> read_manifests(const std::filesystem::path& folder,
                                         const std::vector<std::string>& classes);

// Writes such a folder, and goes on where an earlier run was stopped. The caller holds the folder's
// lock (of its shard).
class DatasetWriter {
 public:
  // InputError when the folder holds another class list. `owned` says which indices this process
  // writes: only their leftovers are removed.
  DatasetWriter(std::filesystem::path folder, std::vector<std::string> classes,
                const std::string& manifest = "manifest.jsonl",
                const std::function<bool(int64_t)>& owned = {});

  bool has(int64_t index) const;  // complete already
  int64_t count() const;          // complete pictures
  // PNG first, durable under its name, then the line. `more` adds keys to the line. May be called
  // from several threads.
  void write(int64_t index, const Image& image, int64_t label, const std::string& prompt,
             uint64_t seed, const Json& more = Json::object());
  void sync();  // the manifest to the disk

  static std::string file_name(int64_t index);  // images/000123.png

 private:
  void remove_leftovers(const std::function<bool(int64_t)>& owned) const;

  std::filesystem::path folder_;
  std::vector<std::string> classes_;
  std::set<int64_t> complete_;
  std::unique_ptr<LineAppender> manifest_;
  mutable std::mutex mutex_;
};

}  // namespace realfake
