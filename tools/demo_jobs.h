#pragma once
// The demo as jobs: which stages run, on what, with which settings; and what their results come to.
#include <string>
#include <vector>

#include "tools/demo_settings.h"
#include "tools/job_graph.h"

namespace realfake {

// A row of the table: a training set by name, and the job that trained on it.
struct DemoRow {
  std::string name;                   // "realfake_1x", "ablation/lora+mmd", ...
  std::vector<std::string> train;     // job per seed
  std::vector<std::string> distance;  // job per seed, or none
  std::vector<std::string> copies;
};

struct Demo {
  std::vector<DemoRow> rows;
  int64_t n_test = 0;
};

// Adds all jobs of all seeds. Folders of jobs are made below the graph's root.
Demo add_demo_jobs(JobGraph& graph, const DemoSettings& settings);

// results.json of the finished graph, in the form that `report` reads.
Json demo_results(const JobGraph& graph, const Demo& demo, const DemoSettings& settings,
                  double wall_seconds);
// The table for the terminal.
std::string demo_table(const Json& results);

}  // namespace realfake
