#include "kernels/emulator/emulator.h"

#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/limits.h"
#include "kernels/emulator/fiber.h"

namespace realfake::emulator {

constinit thread_local Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr int kWarp = 32;
constexpr size_t kGuard = 64;  // bytes after each shared array
constexpr unsigned char kGuardByte = 0xA5;
constexpr size_t kSharedLimit = 227 * 1024;  // of an sm_90 block
constexpr size_t kArena = kSharedLimit + 64 * 1024;

std::atomic<Order> current_order = [] {
  const char* text = std::getenv("REALFAKE_EMULATOR_ORDER");
  return text && std::string(text) == "descending" ? Order::descending : Order::ascending;
}();

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Place {
  const char* file = "";
  int line = 0;
};
std::string str(const Place& p) {
  return concat(p.file, ":", p.line);
}

struct Thread {
  State state = State::ready;
  Dim3 index;
  Fiber* fiber = nullptr;  // held while the thread waits
  Place place = {};
  uint32_t mask = 0;
  int phase = 0;  // number of warp exchanges so far: picks the slot buffer
};

struct SharedArray {
  const void* tag;
  unsigned char* data;
  size_t bytes;
};

// Everything one host thread needs to run blocks; kept between launches.
struct Machine {
  std::vector<Thread> threads;
  std::vector<uint64_t> slots;  // [warp][phase & 1][lane]
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Fiber*> idle;
  std::vector<SharedArray> arrays;
  std::unique_ptr<unsigned char[]> arena = std::make_unique<unsigned char[]>(kArena);
  size_t used = 0, static_bytes = 0, dynamic_bytes = 0;
  unsigned char* dynamic = nullptr;
  const std::function<void()>* body = nullptr;
  Thread* running = nullptr;
  std::exception_ptr error;
  bool busy = false;

  unsigned char* place_array(const void* tag, size_t bytes) {
    const size_t room = (bytes + 15) / 16 * 16;
    if (used + room + kGuard > kArena)
      throw std::logic_error(concat("[emulator] shared memory: more than ", kArena, " bytes"));
    unsigned char* data = arena.get() + used;
    std::memset(data, 0xFF, bytes);
    std::memset(data + bytes, kGuardByte, room - bytes + kGuard);
    used += room + kGuard;
    arrays.push_back({tag, data, bytes});
    return data;
  }

  void check_guards() const {
    for (const SharedArray& a : arrays)
      for (size_t i = 0; i < kGuard; ++i)
        if (a.data[a.bytes + i] != kGuardByte)
          throw std::logic_error(concat("[emulator] write ", i, " bytes past a shared array of ",
                                        a.bytes, " bytes in block (", blockIdx.x, ",", blockIdx.y,
                                        ",", blockIdx.z, ")"));
  }

  void begin_block() {
    used = static_bytes = 0;
    arrays.clear();
    dynamic = place_array(nullptr, dynamic_bytes);
    for (Thread& t : threads) t = Thread{.index = t.index};
  }

  static void thread_main(void* machine) {
    auto* m = static_cast<Machine*>(machine);
    try {
      (*m->body)();
    } catch (...) {
      m->error = std::current_exception();
    }
    m->running->state = State::done;
  }

  void run_thread(Thread& t) {
    if (!t.fiber) {
      if (idle.empty()) {
        fibers.push_back(std::make_unique<Fiber>());
        idle.push_back(fibers.back().get());
      }
      t.fiber = idle.back();
      idle.pop_back();
      t.fiber->start(&thread_main, this);
    }
    running = &t;
    threadIdx = t.index;
    t.state = State::ready;
    t.fiber->resume();
    if (t.fiber->finished()) {
      idle.push_back(t.fiber);
      t.fiber = nullptr;
    }
    if (error) std::rethrow_exception(error);
  }

  void wait(State state, Place place, uint32_t mask) {
    Thread* self = running;
    self->state = state;
    self->place = place;
    self->mask = mask;
    self->fiber->yield();
  }

  // Runs the lanes [first, last) until each is done or at a block barrier.
  void run_warp(size_t first, size_t last, bool down) {
    const size_t n = last - first;
    for (;;) {
      for (size_t i = 0; i < n; ++i) {
        Thread& t = threads[first + (down ? n - 1 - i : i)];
        if (t.state == State::ready) run_thread(t);
      }
      bool waiting = false;
      for (size_t i = first; i < last; ++i) waiting |= threads[i].state == State::at_warp_barrier;
      if (!waiting) return;
      release_exchange(first, last);
    }
  }

  void release_exchange(size_t first, size_t last) {
    for (size_t i = first; i < last; ++i) {
      const Thread& t = threads[i];
      if (t.state != State::at_warp_barrier) continue;
      for (size_t j = first; j < last; ++j)
        if ((t.mask >> (j - first) & 1) && threads[j].state != State::at_warp_barrier)
          throw std::logic_error(
              concat("[emulator] lane ", j - first, " of the mask does not reach the warp ",
                     "exchange at ", str(t.place), ": it ",
                     threads[j].state == State::done ? std::string("has returned")
                                                     : "waits at " + str(threads[j].place)));
    }
    for (size_t i = first; i < last; ++i)
      if (threads[i].state == State::at_warp_barrier) threads[i].state = State::ready;
  }

  void run_block() {
    begin_block();
    const size_t n = threads.size(), warps = (n + kWarp - 1) / kWarp;
    const bool down = current_order == Order::descending;
    for (;;) {
      for (size_t i = 0; i < warps; ++i) {
        const size_t w = down ? warps - 1 - i : i;
        run_warp(w * kWarp, std::min(n, (w + 1) * kWarp), down);
      }
      const Thread* waits = nullptr;
      const Thread* done = nullptr;
      for (const Thread& t : threads) {
        if (t.state == State::at_block_barrier) {
          if (waits && str(waits->place) != str(t.place))
            throw std::logic_error(concat("[emulator] threads wait at different barriers: ",
                                          str(waits->place), " and ", str(t.place)));
          waits = &t;
        } else {
          done = &t;
        }
      }
      if (!waits) break;
      if (done)
        throw std::logic_error(concat("[emulator] a thread returned before the barrier at ",
                                      str(waits->place), " that others wait at"));
      for (Thread& t : threads) t.state = State::ready;
    }
    check_guards();
  }
};

Machine& machine() {
  thread_local Machine m;
  return m;
}

}  // namespace

void set_order(Order o) {
  current_order = o;
}
Order order() {
  return current_order;
}

void run(Dim3 grid, Dim3 block, size_t shared_bytes, const std::function<void()>& thread) {
  check_launch_limits(grid, block, shared_bytes);
  Machine& m = machine();
  if (m.busy) throw std::logic_error("[emulator] a kernel launched a kernel");
  struct Reset {
    Machine& m;
    ~Reset() {
      m.busy = false;
      m.error = nullptr;
      // After a fault, fibres are left in the middle: give them back and start anew.
      for (Thread& t : m.threads)
        if (t.fiber) m.idle.push_back(t.fiber);
      m.threads.clear();
    }
  } reset{m};
  m.busy = true;
  m.body = &thread;
  m.dynamic_bytes = shared_bytes;
  blockDim = block;
  gridDim = grid;
  const size_t n = static_cast<size_t>(block.x) * block.y * block.z;
  m.threads.assign(n, {});
  m.slots.assign((n + kWarp - 1) / kWarp * 2 * kWarp, 0);
  size_t i = 0;
  for (unsigned z = 0; z < block.z; ++z)
    for (unsigned y = 0; y < block.y; ++y)
      for (unsigned x = 0; x < block.x; ++x) m.threads[i++].index = Dim3(x, y, z);
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = Dim3(x, y, z);
        m.run_block();
      }
}

void* shared_array(const void* tag, size_t bytes) {
  Machine& m = machine();
  for (const SharedArray& a : m.arrays)
    if (a.tag == tag) return a.data;
  m.static_bytes += bytes;
  if (m.static_bytes > 48 * 1024)
    throw std::logic_error("[emulator] more than 48 KiB of static shared memory");
  return m.place_array(tag, bytes);
}

void* dynamic_shared() {
  return machine().dynamic;
}

void block_barrier(const char* file, int line) {
  machine().wait(State::at_block_barrier, {file, line}, 0);
}

void warp_barrier(uint32_t mask, const char* file, int line) {
  Machine& m = machine();
  const auto self = static_cast<size_t>(m.running - m.threads.data());
  const size_t first = self / kWarp * kWarp,
               lanes = std::min<size_t>(kWarp, m.threads.size() - first);
  if (lanes < kWarp) mask &= (1u << lanes) - 1;  // a partial last warp has no such lanes
  m.wait(State::at_warp_barrier, {file, line}, mask);
}

uint64_t exchange(uint32_t mask, uint64_t bits, int source, const char* file, int line) {
  Machine& m = machine();
  Thread* self = m.running;
  const auto index = static_cast<size_t>(self - m.threads.data());
  uint64_t* slot = m.slots.data() + (index / kWarp * 2 + (self->phase++ & 1)) * kWarp;
  slot[index % kWarp] = bits;
  warp_barrier(mask, file, line);
  const bool inside =
      source >= 0 && source < kWarp && index / kWarp * kWarp + source < m.threads.size();
  return inside ? slot[source] : bits;
}

int lane() {
  Machine& m = machine();
  return static_cast<int>((m.running - m.threads.data()) % kWarp);
}

}  // namespace realfake::emulator
