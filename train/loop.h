#pragma once
// The loop that every training shares: loss, backward, clipped step, EMA, report, checkpoint,
// stop.
#include <functional>
#include <string>

#include "train/checkpoint.h"
#include "train/optimizers.h"
#include "train/reporter.h"

namespace realfake {

struct LoopOptions {
  std::string stage;  // name in reports
  int64_t steps = 0;
  double clip = 1;
  int64_t checkpoint_every = 500;  // 0: only when stopped
  int64_t stop_after = 0;  // behave as if stopped after this step; 0: never. For tests of resuming.
};

// What one step gives back: the loss to minimise, and further numbers to report.
struct LoopStep {
  Var loss;
  Metrics metrics;
};

// Runs steps [done, steps). `values` are saved and restored whole (trained parameters and running
// statistics); `ema` may be null. `rate(step)` is the learning rate.  NumericError when a loss or
// gradient is not finite; Error(interrupted) after saving when asked to stop. A resumed run goes on
// to the same bytes.
void run_loop(Exec& exec, const LoopOptions& options, const std::vector<Param>& values,
              Optimizer& optimizer, Ema* ema, const Checkpoint* checkpoint, bool resume,
              Reporter& reporter, const std::function<double(int64_t)>& rate,
              const std::function<LoopStep(Tape&, int64_t)>& step);

}  // namespace realfake
