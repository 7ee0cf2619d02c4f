// Linked where there is no CUDA toolkit.
#include "kernels/backend.h"

namespace realfake {

const Executor* cuda_executor() {
  return nullptr;
}

}  // namespace realfake
