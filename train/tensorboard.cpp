#include "train/tensorboard.h"

#include <array>
#include <cstring>

#include "kernels/base/file.h"

namespace realfake {
namespace {

std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = c & 1 ? 0x82f63b78u ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  return table;
}

void put_varint(std::string& to, uint64_t v) {
  for (; v >= 128; v >>= 7) to += static_cast<char>(v | 128);
  to += static_cast<char>(v);
}

// Little endian, as protobuf's fixed fields and the framing have it.
template <class T>
void put_fixed(std::string& to, T v) {
  char bytes[sizeof v];
  std::memcpy(bytes, &v, sizeof v);
  to.append(bytes, sizeof v);
}

enum Wire { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };
void put_tag(std::string& to, int field, Wire wire) {
  put_varint(to, static_cast<uint64_t>(field << 3 | wire));
}
void put_bytes(std::string& to, int field, const std::string& content) {
  put_tag(to, field, Wire::bytes);
  put_varint(to, content.size());
  to += content;
}

uint32_t masked_crc(const std::string& s) {
  const uint32_t c = crc32c(s.data(), s.size());
  return ((c >> 15) | (c << 17)) + 0xa282ead8u;
}

// TFRecord: length, its checksum, data, its checksum.
void put_record(std::string& to, const std::string& data) {
  std::string length;
  put_fixed(length, static_cast<uint64_t>(data.size()));
  to += length;
  put_fixed(to, masked_crc(length));
  to += data;
  put_fixed(to, masked_crc(data));
}

// Event {1 wall_time, 2 step, 3 file_version, 5 summary}, Summary {1 value}, Value {1 tag, 2
// simple_value}
std::string event_header(double wall_time) {
  std::string e;
  put_tag(e, 1, Wire::fixed64);
  put_fixed(e, wall_time);
  return e;
}

}  // namespace

uint32_t crc32c(const void* data, size_t size) {
  static const std::array<uint32_t, 256> table = crc_table();
  const auto* p = static_cast<const uint8_t*>(data);
  uint32_t c = ~0u;
  for (size_t i = 0; i < size; ++i) c = table[(c ^ p[i]) & 255] ^ (c >> 8);
  return ~c;
}

void write_event_file(const std::filesystem::path& path, const std::vector<ScalarEvent>& events) {
  std::string out, version = event_header(events.empty() ? 0 : events.front().wall_time);
  put_bytes(version, 3, "brain.Event:2");
  put_record(out, version);
  for (const ScalarEvent& event : events) {
    std::string summary, e = event_header(event.wall_time);
    put_tag(e, 2, Wire::varint);
    put_varint(e, static_cast<uint64_t>(event.step));
    for (const auto& [tag, value] : event.values) {
      std::string v;
      put_bytes(v, 1, tag);
      put_tag(v, 2, Wire::fixed32);
      put_fixed(v, value);
      put_bytes(summary, 1, v);
    }
    put_bytes(e, 5, summary);
    put_record(out, e);
  }
  write_file_atomic(path, out);
}

}  // namespace realfake
