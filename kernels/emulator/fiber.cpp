#include "kernels/emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#ifdef REALFAKE_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the registers that a call must keep, stores the stack pointer in *save, continues at
// `load`.
extern "C" void realfake_switch_stack(void** save, void* load);

#if defined(__x86_64__)
asm(R"(
.text
.globl realfake_switch_stack
.type realfake_switch_stack, @function
realfake_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size realfake_switch_stack, .-realfake_switch_stack
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl realfake_switch_stack
.type realfake_switch_stack, %function
realfake_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size realfake_switch_stack, .-realfake_switch_stack
)");
#else
#error "the emulator's stack switch is written for x86-64 and aarch64"
#endif

namespace realfake::emulator {
namespace {

// Room for a kernel's frames; sanitizers need several times as much. Pages are committed when
// touched.
#ifdef REALFAKE_ASAN
constexpr size_t kStackBytes = 512 * 1024;
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif

thread_local Fiber* entering = nullptr;  // read by entry() on its first run

}  // namespace

Fiber::Fiber() {
  stack_ = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (stack_ == MAP_FAILED) throw std::bad_alloc();
  mprotect(stack_, 4096, PROT_NONE);  // an overflow faults instead of spoiling the neighbour
}

Fiber::~Fiber() {
  munmap(stack_, kStackBytes);
}

void Fiber::start(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  finished_ = false;
  auto top = reinterpret_cast<uintptr_t>(stack_) + kStackBytes;
  auto* sp = reinterpret_cast<void**>(top);
#if defined(__x86_64__)
  *--sp = nullptr;                                 // entry() sees a call's alignment: rsp % 16 == 8
  *--sp = reinterpret_cast<void*>(&Fiber::entry);  // where `ret` goes
  for (int i = 0; i < 6; ++i) *--sp = nullptr;     // rbp ... r15
#else
  sp -= 20;
  for (int i = 0; i < 20; ++i) sp[i] = nullptr;
  sp[11] = reinterpret_cast<void*>(&Fiber::entry);  // x30
#endif
  sp_ = sp;
}

void Fiber::resume() {
  entering = this;
#ifdef REALFAKE_ASAN
  __sanitizer_start_switch_fiber(&scheduler_fake_stack_, stack_, kStackBytes);
#endif
  realfake_switch_stack(&scheduler_sp_, sp_);
#ifdef REALFAKE_ASAN
  __sanitizer_finish_switch_fiber(scheduler_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::leave(bool last) {
  (void)last;
#ifdef REALFAKE_ASAN
  __sanitizer_start_switch_fiber(last ? nullptr : &fake_stack_, scheduler_bottom_, scheduler_size_);
#endif
  realfake_switch_stack(&sp_, scheduler_sp_);
#ifdef REALFAKE_ASAN
  __sanitizer_finish_switch_fiber(fake_stack_, &scheduler_bottom_, &scheduler_size_);
#endif
}

void Fiber::yield() {
  leave(false);
}

void Fiber::entry() {
  Fiber* self = entering;
#ifdef REALFAKE_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &self->scheduler_bottom_, &self->scheduler_size_);
#endif
  self->body_(self->argument_);
  self->finished_ = true;
  self->leave(true);  // never comes back: start() builds a new frame
}

}  // namespace realfake::emulator
