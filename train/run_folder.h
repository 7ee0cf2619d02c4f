#pragma once
// The folder of one run: locked while the run lives, with its settings, its measures as they come,
// and at the end a table and TensorBoard events. Shows progress on the way, and hears the signals
// that ask to stop.
//
//   config.toml    the resolved options
//   metrics.jsonl  one object per logged step: {"stage","step","total","time", measures...}; time
//   is Unix seconds summary.csv    at most 100 steps of each stage events.out.tfevents.*  the same
//   measures, tag `stage/measure`
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "train/reporter.h"

namespace realfake {

// A first SIGINT, SIGTERM or SIGHUP only sets a flag; a second ends the process at once.
void catch_stop_signals();
int stop_signal();  // 0 while there was none
// How the process ends once a loop has saved and thrown ExitCode::interrupted: 130, or 143 after
// SIGTERM or SIGHUP.
ExitCode stop_exit_code();

enum class Display {
  automatic,  // a bar where stderr is a terminal, else lines
  lines,      // at most one every 5 s and stage
  silent,
};

class RunFolder : public Reporter {
 public:
  // Makes and locks the folder; LockedError, IoError. `config` is written as config.toml unless it
  // is empty. `label` begins every line: for runs that share a terminal.
  RunFolder(const std::filesystem::path& folder, const std::string& config,
            Display display = Display::automatic, const std::string& label = "");
  ~RunFolder() override;
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return folder_; }

  // These three may be called from several threads.
  void step(const std::string& stage, int64_t step, int64_t total, const Metrics& metrics) override;
  void say(const std::string& line) override;
  bool stop_requested() const override { return stop_signal() != 0; }

  // A run that goes on from a checkpoint made after `step`: forgets what was logged of the stage
  // later than that.
  void rewind(const std::string& stage, int64_t step) override;
  // Seconds that a stage took in this process, from its first to its last step.
  double seconds(const std::string& stage) const;
  // Writes summary.csv and the events. Call when the run is complete.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  struct Stage {
    int64_t first = 0, last = 0;
    Clock::time_point start, latest, shown;
  };
  void show(const std::string& name, Stage& stage, int64_t total, const Metrics& metrics);
  void clear_bar();

  std::filesystem::path folder_;
  std::unique_ptr<FolderLock> lock_;
  std::unique_ptr<LineAppender> metrics_;
  Display display_;
  bool bar_ = false, bar_shown_ = false;
  std::string label_;
  std::map<std::string, Stage> stages_;
  mutable std::mutex mutex_;
};

// MiB of memory that this process holds now.
double resident_mib();

}  // namespace realfake
