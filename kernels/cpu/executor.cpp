#include "kernels/backend.h"
#include "kernels/cpu/host_memory.h"

namespace realfake {

const Executor* cpu_executor() {
  static const OpTable table = [] {
    OpTable t;
#define REALFAKE_SET(name) t.name = &cpu::name;
    REALFAKE_OPS(REALFAKE_SET)
#undef REALFAKE_SET
    return t;
  }();
  static const Executor executor = cpu::host_executor(&table);
  return &executor;
}

}  // namespace realfake
