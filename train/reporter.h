#pragma once
// How a long loop talks to whoever started it: measures per step, a line of text now and then, and
// whether to stop.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace realfake {

using Metrics = std::vector<std::pair<std::string, double>>;

class Reporter {
 public:
  virtual ~Reporter() = default;
  // After step `step` of `total` (1-based) of `stage`; called at every step, shown and written as
  // often as is useful.
  virtual void step(const std::string& stage, int64_t step, int64_t total,
                    const Metrics& metrics) = 0;
  virtual void say(const std::string& line) = 0;
  // The stage begins, after `step` steps that an earlier process did: what was written of later
  // ones is void.
  virtual void rewind(const std::string&, int64_t) {}
  // True once a signal asked to stop: finish the step, save, throw Error(ExitCode::interrupted).
  virtual bool stop_requested() const = 0;
};

class SilentReporter : public Reporter {
 public:
  void step(const std::string&, int64_t, int64_t, const Metrics&) override {}
  void say(const std::string&) override {}
  bool stop_requested() const override { return false; }
};

}  // namespace realfake
