#pragma once
// Counts the arithmetic of products, convolutions and attention that runs on an Exec, by the ops'
// own cost functions: puts counting implementations into the Exec's table, which pass on. Norms
// and pointwise ops are not counted, as is the custom in published figures.
#include "kernels/backend.h"

namespace realfake {

class FlopCounter {
 public:
  explicit FlopCounter(Exec& exec);  // one at a time per thread
  ~FlopCounter();
  FlopCounter(const FlopCounter&) = delete;
  FlopCounter& operator=(const FlopCounter&) = delete;
  double flops() const;

 private:
  Exec& exec_;
  OpTable counting_;
};

}  // namespace realfake
