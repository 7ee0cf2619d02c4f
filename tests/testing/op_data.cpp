// Values of a case and their way to and from a device.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <numbers>
#include <random>

#include "tests/testing/op_case.h"

namespace realfake::testing {

namespace {

constexpr int64_t kMarginLeft = 1,
                  kMarginRight = 4;  // of strided rows; odd, so that rows are unaligned

// Not std::normal_distribution: its numbers differ between libraries.
class Draw {
 public:
  explicit Draw(uint64_t seed) : engine_(seed) {}
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  double normal() {
    return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(2 * std::numbers::pi * uniform());
  }
  uint64_t below(uint64_t n) { return engine_() % n; }

 private:
  std::mt19937_64 engine_;
};

template <class T>
std::vector<std::byte> encode_as(const Numbers& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    const T v = static_cast<T>(values[i]);
    std::memcpy(bytes.data() + i * sizeof(T), &v, sizeof(T));
  }
  return bytes;
}
template <class T>
Numbers decode_as(const std::vector<std::byte>& bytes) {
  Numbers values(bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T v;
    std::memcpy(&v, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = static_cast<double>(v);
  }
  return values;
}

std::vector<std::byte> encode(const Numbers& values, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return encode_as<float>(values);
    case DType::f64:
      return encode_as<double>(values);
    case DType::i32:
      return encode_as<int32_t>(values);
    case DType::i64:
      return encode_as<int64_t>(values);
    case DType::u8:
      return encode_as<uint8_t>(values);
    case DType::f16:
    case DType::bf16:
      break;
  }
  Numbers bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), [&](double v) {
    const float f = static_cast<float>(v);
    return dtype == DType::f16 ? f32_to_f16(f) : f32_to_bf16(f);
  });
  return encode_as<uint16_t>(bits);
}

Numbers decode(const std::vector<std::byte>& bytes, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return decode_as<float>(bytes);
    case DType::f64:
      return decode_as<double>(bytes);
    case DType::i32:
      return decode_as<int32_t>(bytes);
    case DType::i64:
      return decode_as<int64_t>(bytes);
    case DType::u8:
      return decode_as<uint8_t>(bytes);
    case DType::f16:
    case DType::bf16:
      break;
  }
  Numbers values = decode_as<uint16_t>(bytes);
  for (double& v : values) {
    const auto bits = static_cast<uint16_t>(v);
    v = dtype == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
  return values;
}

}  // namespace

uint64_t seed_of(const std::string& name) {
  uint64_t h = 14695981039346656037ull;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return h;
}

Numbers make_values(const Fill& fill, const Shape& shape, DType dtype, uint64_t seed) {
  Draw draw(seed);
  Numbers v(static_cast<size_t>(shape.numel()));
  switch (fill.kind) {
    case Fill::normal_values:
      for (double& x : v) x = fill.a + fill.b * draw.normal();
      break;
    case Fill::uniform_values:
      for (double& x : v) x = fill.a + (fill.b - fill.a) * draw.uniform();
      break;
    case Fill::integer_values:
      for (double& x : v)
        x = fill.a + static_cast<double>(draw.below(static_cast<uint64_t>(fill.b - fill.a) + 1));
      break;
    case Fill::distinct_values:
      for (size_t k = 0; k < v.size(); ++k)
        v[k] = fill.a * (static_cast<double>(k / 2) + 0.5) * (k % 2 ? 1 : -1);
      for (size_t k = v.size(); k > 1; --k) std::swap(v[k - 1], v[draw.below(k)]);
      break;
    case Fill::row_probabilities: {
      const size_t columns = static_cast<size_t>(shape[-1]);
      for (size_t row = 0; row < v.size(); row += columns) {
        double sum = 0;
        for (size_t k = 0; k < columns; ++k) sum += v[row + k] = 0.05 + draw.uniform();
        for (size_t k = 0; k < columns; ++k) v[row + k] /= sum;
      }
      break;
    }
    case Fill::given_values:
      for (size_t k = 0; k < v.size(); ++k) v[k] = fill.list[k % fill.list.size()];
      break;
  }
  if (dtype == DType::f16 || dtype == DType::bf16) return decode(encode(v, dtype), dtype);
  if (is_floating(dtype))
    for (double& x : v) x = static_cast<double>(static_cast<float>(x));
  return v;
}

Placed place(Exec& exec, const Numbers& values, const Shape& shape, DType dtype, bool with_stride) {
  if (!with_stride) {
    const auto bytes = encode(values, dtype);
    const Tensor dense = exec.from_host(bytes.data(), shape, dtype);
    return {dense, dense};
  }
  // Reading a margin spoils the result, writing one shows.
  const int64_t columns = shape[-1], wide = kMarginLeft + columns + kMarginRight;
  Shape outer = shape;
  outer.set(-1, wide);
  Numbers all(static_cast<size_t>(outer.numel()), std::numeric_limits<double>::quiet_NaN());
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / columns,
                  column = static_cast<int64_t>(i) % columns;
    all[static_cast<size_t>(row * wide + kMarginLeft + column)] = values[i];
  }
  const auto bytes = encode(all, dtype);
  const Tensor whole = exec.from_host(bytes.data(), outer, dtype);
  return {whole.columns(kMarginLeft, kMarginLeft + columns), whole};
}

bool Placed::margins_intact(Exec& exec) const {
  const int64_t wide = whole.columns(), columns = view.columns();
  if (wide == columns) return true;
  const Numbers all = download(exec, whole);
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t column = static_cast<int64_t>(i) % wide - kMarginLeft;
    if ((column < 0 || column >= columns) && !std::isnan(all[i])) return false;
  }
  return true;
}

Numbers download(Exec& exec, const Tensor& t) {
  std::vector<std::byte> bytes(static_cast<size_t>(t.numel()) * size_of(t.dtype()));
  exec.to_host(bytes.data(), t);
  return decode(bytes, t.dtype());
}

Exec& exec_of(Device device) {
  static std::map<Device, std::unique_ptr<Exec>> execs;
  auto& exec = execs[device];
  if (!exec) exec = std::make_unique<Exec>(device);
  return *exec;
}

void PrintTo(const OpCase& c, std::ostream* os) {
  *os << c.name;
}

OpCase strided(OpCase c) {
  c.name += "_strided";
  for (Input& in : c.inputs)
    in.strided = !in.dense && is_floating(in.dtype) && in.shape.rank() >= 2;
  for (Output& out : c.outputs)
    out.strided = !out.dense && is_floating(out.dtype) && out.shape.rank() >= 2;
  return c;
}

std::vector<OpCase> with_strided(const std::vector<OpCase>& cases) {
  std::vector<OpCase> all;
  for (const OpCase& c : cases) {
    all.push_back(c);
    all.push_back(strided(c));
  }
  return all;
}

}  // namespace realfake::testing
