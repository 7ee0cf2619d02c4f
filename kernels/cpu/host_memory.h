#pragma once
// Memory and (empty) stream handling of the executors that run on the host: cpu and emulated.
#include <cstdlib>
#include <cstring>

#include "kernels/backend.h"

namespace realfake::cpu {

inline Executor host_executor(const OpTable* table) {
  RawMemory memory;
  memory.allocate = [](size_t bytes) -> void* {
    constexpr size_t line = 64;
    if (bytes > SIZE_MAX - line) return nullptr;
    return std::aligned_alloc(line, bytes == 0 ? line : (bytes + line - 1) / line * line);
  };
  memory.release = [](void* p) { std::free(p); };
  memory.fill = [](void* p, int byte, size_t bytes, void*) {
    if (bytes) std::memset(p, byte, bytes);
  };
  memory.copy = [](void* to, const void* from, size_t bytes, void*) {
    if (bytes) std::memcpy(to, from, bytes);
  };
  Executor e;
  e.table = table;
  e.memory = memory;
  e.available = [] { return true; };
  e.open = [](int) -> void* { return nullptr; };
  e.close = [](void*) {};
  e.synchronize = [](void*) {};
  return e;
}

}  // namespace realfake::cpu
