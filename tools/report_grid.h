#pragma once
// Pictures of several sets side by side: one row a class, one column a set, each cell one strip.
#include <filesystem>
#include <string>
#include <vector>

#include "data/image.h"
#include "tools/report_data.h"

namespace realfake {

struct GridCell {
  Image strip;        // pictures in a row or in two, with `gap` pixels after each but the last
  int64_t shown = 0;  // pictures in it; 0 when the set has none of the class
  int64_t columns = 1;
};

struct GridColumn {
  std::string title, problem;        // `problem`: why there are no pictures
  std::vector<std::string> classes;  // of this set, by label
  std::vector<GridCell> cells;       // by label
  int64_t side = 0, gap = 1;
};

// The first `per_class` pictures of each class, in the order of the set: not chosen by eye. Only
// these are decoded. Large pictures are made smaller. A set that cannot be read gives a column that
// says why.
GridColumn read_grid(const std::filesystem::path& run_folder, const GridSource& source);

}  // namespace realfake
