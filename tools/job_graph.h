#pragma once
// Jobs with dependencies, run by a few workers at a time. Each job owns a folder and leaves
// result.json there, under a key that covers its settings and those of everything it depends on: a
// job whose result is there under the same key is not run again.
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/base/json.h"
#include "kernels/exec.h"
#include "train/reporter.h"

namespace realfake {

class JobGraph;

// What a running job has at hand.
struct JobContext {
  Exec& exec;
  Reporter& reporter;
  std::filesystem::path folder;  // of this job
  // The folder or result of a job it depends on.
  std::function<std::filesystem::path(const std::string&)> folder_of;
  std::function<const Json&(const std::string&)> result_of;
};

struct Job {
  std::string name;     // also its folder below the root, "seed-0/train/real"
  std::string command;  // the command line that does the same, for commands.sh
  std::vector<std::string> after;
  Json settings;  // what its result depends on, beside the jobs it comes after
  std::function<Json(JobContext&)> run;  // returns the result
};

struct JobGraphOptions {
  Device device = Device::cpu;
  int workers = 2;          // jobs at a time
  int threads_per_job = 1;  // OpenMP threads of each
  bool quiet = false;
};

class JobGraph {
 public:
  JobGraph(std::filesystem::path root, JobGraphOptions options);
  void add(Job job);  // dependencies first
  // Drops every job that none of `targets` needs.
  void keep(const std::vector<std::string>& targets);
  // Runs what is not done. A fault in one job lets the others that are running finish, then is
  // thrown; after a stop signal jobs save and end, and Error(interrupted) is thrown.
  void run();
  const Json& result(const std::string& name) const;
  std::filesystem::path folder(const std::string& name) const { return root_ / name; }
  bool has(const std::string& name) const { return index_.contains(name); }
  const std::map<std::string, double>& seconds() const { return seconds_; }  // of each job
  int reused() const { return reused_; }  // jobs that were done before this run
  // The command lines of all jobs, in an order in which they can be run by hand.
  std::string script() const;

 private:
  struct State {
    Job job;
    std::string key;
    enum { waiting, running, done } phase = waiting;
    Json result;
  };
  bool load_done(State& s);
  void execute(State& s, Exec& exec);
  void print(const std::string& line);
  std::filesystem::path root_;
  JobGraphOptions options_;
  std::vector<State> states_;
  std::map<std::string, size_t> index_;
  std::map<std::string, double> seconds_;
  mutable std::mutex mutex_;
  int reused_ = 0, finished_ = 0;
  double spent_ = 0;
};

}  // namespace realfake
