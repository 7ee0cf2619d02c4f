#include "train/loop.h"

#include <cmath>

namespace realfake {

void run_loop(Exec& exec, const LoopOptions& o, const std::vector<Param>& values,
              Optimizer& optimizer, Ema* ema, const Checkpoint* checkpoint, bool resume,
              Reporter& reporter, const std::function<double(int64_t)>& rate,
              const std::function<LoopStep(Tape&, int64_t)>& step_function) {
  int64_t done = 0;
  if (checkpoint && resume)
    done = checkpoint
               ->load(
                   [&](const SafetensorsFile& f) {
                     load_values(f, exec, values);
                     optimizer.load(f);
                     if (ema) ema->load(f);
                   },
                   [&](const std::string& line) { reporter.say("warning: " + line); })
               .value_or(0);
  if (done > 0) reporter.say(concat(o.stage, ": going on after step ", done));
  if (checkpoint) reporter.rewind(o.stage, done);
  const auto save = [&](int64_t step) {
    if (!checkpoint) return;
    checkpoint->save(step, [&](SafetensorsWriter& w) {
      save_values(w, exec, values);
      optimizer.save(w);
      if (ema) ema->save(w);
    });
  };
  for (int64_t step = done; step < o.steps; ++step) {
    Tape tape(exec);
    const LoopStep s = step_function(tape, step);
    const double loss = exec.scalar(s.loss.value());
    if (!std::isfinite(loss))
      throw NumericError(concat(o.stage, ": step ", step + 1, ": loss is ", loss));
    tape.backward(s.loss);
    const double lr = rate(step), norm = optimizer.step(lr, o.clip);
    if (ema) ema->update();
    Metrics metrics{{"loss", loss}};
    metrics.insert(metrics.end(), s.metrics.begin(), s.metrics.end());
    metrics.emplace_back("lr", lr);
    metrics.emplace_back("grad_norm", norm);
    reporter.step(o.stage, step + 1, o.steps, metrics);
    const bool last = step + 1 == o.steps;
    const bool stop = reporter.stop_requested() || (o.stop_after > 0 && step + 1 == o.stop_after);
    if (!last && (stop || (o.checkpoint_every > 0 && (step + 1) % o.checkpoint_every == 0)))
      save(step + 1);
    if (!last && stop)
      throw Error(ExitCode::interrupted, concat(o.stage, ": interrupted after step ", step + 1,
                                                checkpoint ? "; saved" : ""));
  }
}

}  // namespace realfake
