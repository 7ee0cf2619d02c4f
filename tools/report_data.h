#pragma once
// results.json of a run folder, checked: what the page shows.
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/json.h"

namespace realfake {

using Values = std::vector<double>;  // one a seed, in the order of the seeds

struct ResultRow {
  std::string name;
  Values accuracy;  // percent; empty when only distances were measured
  int64_t n_test = 0;
  Values frechet, fidelity;

  std::string group() const;  // what stands before '/', or ""
};

struct PrivacyRow {
  std::string name;
  Values own_source_median, nearest_other_median, own_is_nearest_percent, real_real_median;
};

struct Check {
  std::string claim, measured;
  bool holds = false;
};

struct GridSource {
  std::string title, split;
  std::filesystem::path folder;  // as written: relative to the run folder
  int64_t per_class = 8;
};

struct CurveSource {
  std::string title, label, stage, key;  // label: in the legend; empty: stage and key
  std::filesystem::path file;
};

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Report {
  std::string title, commit, machine;
  std::vector<std::pair<std::string, double>> seconds;
  std::vector<ResultRow> rows;
  std::vector<PrivacyRow> privacy;
  std::vector<Check> checks;
  std::vector<std::pair<std::string, Pairs>> settings;
  std::vector<GridSource> grids;
  std::vector<CurveSource> curves;
  std::vector<std::string> notes;

  const ResultRow* row(const std::string& name) const;  // with accuracy; null when there is none
};

// InputError that names file and place. Unknown keys are ignored; a null counts as absent.
Report read_report(const std::filesystem::path& results_json);

double mean_of(const Values& values);
double lowest_of(const Values& values);
double highest_of(const Values& values);
// Standard error of an accuracy measured once on n pictures, in percent points.
double standard_error(double percent, int64_t n);

}  // namespace realfake
