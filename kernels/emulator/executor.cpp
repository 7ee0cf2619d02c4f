#include "kernels/backend.h"
#include "kernels/cpu/host_memory.h"

namespace realfake {

const Executor* emulated_executor() {
  static const OpTable table = [] {
    OpTable t;
#define REALFAKE_SET(name) t.name = &emulated::name;
    REALFAKE_KERNEL_OPS(REALFAKE_SET)
#undef REALFAKE_SET
#define REALFAKE_SET(name) t.name = &cpu::name;
    REALFAKE_LIBRARY_OPS(REALFAKE_SET)
#undef REALFAKE_SET
    return t;
  }();
  static const Executor executor = cpu::host_executor(&table);
  return &executor;
}

}  // namespace realfake
