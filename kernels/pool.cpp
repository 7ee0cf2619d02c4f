#include "kernels/pool.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "kernels/base/error.h"

namespace realfake {
namespace {

constexpr unsigned char kGuardByte = 0xA5;
std::atomic<bool> debug_mode = std::getenv("REALFAKE_POOL_DEBUG") != nullptr;
std::atomic<size_t> hits = 0;

// 256, 384, 512, 768, 1024, ...: at most a third is lost, and a step's sizes soon repeat.
size_t size_class(size_t bytes) {
  size_t c = 256;
  while (c < bytes) {
    if (c / 2 * 3 >= bytes) return c / 2 * 3;
    c *= 2;
  }
  return c;
}

// Under a sanitizer each tensor is a block of its own, so that its bounds and lifetime are seen.
#ifdef REALFAKE_ASAN
constexpr bool kReuse = false;
#else
constexpr bool kReuse = true;
#endif

}  // namespace

Storage::~Storage() {
  if (pool && block) pool->give_back(*this);
}

Pool::Pool(Device device, RawMemory memory, void* stream)
    : device_(device), memory_(memory), stream_(stream) {}

Pool::~Pool() {
  for (auto& [bytes, blocks] : free_)
    for (void* p : blocks) memory_.release(p);
}

void Pool::set_debug(bool on) {
  debug_mode = on;
}
bool Pool::debug() {
  return debug_mode;
}
size_t Pool::guard_hits() {
  return hits;
}

std::shared_ptr<Storage> Pool::allocate(size_t bytes) {
  auto s = std::make_shared<Storage>();
  s->guarded = debug_mode;
  const size_t wanted = (s->guarded ? 2 * guard_bytes + (bytes + 63) / 64 * 64 : bytes);
  s->block_bytes = kReuse ? size_class(wanted) : std::max<size_t>(wanted, 1);
  s->bytes = bytes;
  s->pool = shared_from_this();
  {
    const std::lock_guard lock(mutex_);
    auto& blocks = free_[s->block_bytes];
    if (!blocks.empty()) {
      s->block = blocks.back();
      blocks.pop_back();
    }
    live_ += s->block_bytes;
    peak_ = std::max(peak_, live_);
  }
  if (!s->block) s->block = memory_.allocate(s->block_bytes);
  if (!s->block) {  // give what lies idle back to the device and try once more
    const std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : free_) {
      for (void* p : blocks) memory_.release(p);
      blocks.clear();
    }
    s->block = memory_.allocate(s->block_bytes);
  }
  if (!s->block) {
    const std::lock_guard lock(mutex_);
    live_ -= s->block_bytes;
    throw MemoryError(concat(name_of(device_), " memory: ", s->block_bytes, " bytes wanted, ",
                             live_, " in use; a smaller batch needs less"));
  }
  s->data = s->block;
  if (s->guarded) {
    auto* p = static_cast<unsigned char*>(s->block);
    s->data = p + guard_bytes;
    if (is_host(device_)) {
      std::memset(p, kGuardByte, guard_bytes);
      std::memset(p + guard_bytes, 0xFF, s->block_bytes - guard_bytes);
      std::memset(p + guard_bytes + bytes, kGuardByte, s->block_bytes - guard_bytes - bytes);
    } else {
      memory_.fill(s->block, 0xFF, s->block_bytes, stream_);
    }
  }
  return s;
}

void Pool::give_back(Storage& s) {
  if (s.guarded && is_host(device_)) {
    const auto* p = static_cast<const unsigned char*>(s.block);
    size_t bad = 0;
    for (size_t i = 0; i < guard_bytes; ++i) bad += p[i] != kGuardByte;
    for (size_t i = guard_bytes + s.bytes; i < s.block_bytes; ++i) bad += p[i] != kGuardByte;
    hits += bad;
  }
  const std::lock_guard lock(mutex_);
  live_ -= s.block_bytes;
  if (kReuse)
    free_[s.block_bytes].push_back(s.block);
  else
    memory_.release(s.block);
  s.block = nullptr;
}

}  // namespace realfake
