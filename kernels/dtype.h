#pragma once
// Storage types of a tensor and the one switch from run-time dtype to compile-time type.
#include <cstddef>
#include <cstdint>

#include "kernels/base/error.h"

namespace realfake {

enum class DType : uint8_t { f32, f64, f16, bf16, i32, i64, u8 };

constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}
constexpr const char* name_of(DType t) {
  constexpr const char* names[] = {"f32", "f64", "f16", "bf16", "i32", "i64", "u8"};
  return names[static_cast<int>(t)];
}
constexpr bool is_floating(DType t) {
  return t <= DType::bf16;
}

template <class T>
struct TypeTag {
  using type = T;
};
template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::i64;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::u8;
}

// dispatch_real(x.dtype(), "op", [&](auto tag) { using T = typename decltype(tag)::type; ... });
template <class F>
void dispatch_real(DType t, const char* op, F&& body) {
  if (t == DType::f32) return body(TypeTag<float>{});
  if (t == DType::f64) return body(TypeTag<double>{});
  throw ContractError(concat("[", op, "] dtype ", name_of(t), " is not computed on this device"));
}

// Conversions of the 16-bit storage types (round to nearest even), the same on host and device.
uint16_t f32_to_bf16(float v);
float bf16_to_f32(uint16_t v);
uint16_t f32_to_f16(float v);
float f16_to_f32(uint16_t v);

}  // namespace realfake
