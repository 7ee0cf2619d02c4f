#pragma once
// A fibre: a stack of its own that runs a function and can give the processor back in between.
// Switching is a few instructions (x86-64, aarch64); AddressSanitizer is told of each switch.
#include <cstddef>

namespace realfake::emulator {

class Fiber {
 public:
  // `body(argument)` runs at the first resume(); when it returns the fibre can be started again.
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void start(void (*body)(void*), void* argument);
  void resume();  // from the scheduler: runs until yield() or the end of body
  void yield();   // from inside
  bool finished() const { return finished_; }

 private:
  static void entry();
  void leave(bool last);
  void* stack_ = nullptr;
  void* sp_ = nullptr;  // of the fibre while it is away
  void* scheduler_sp_ = nullptr;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool finished_ = true;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  void* scheduler_fake_stack_ = nullptr;
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_size_ = 0;
};

}  // namespace realfake::emulator
