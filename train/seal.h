#pragma once
// Checksums inside our own safetensors files (checkpoints, embedded data sets): the format itself
// has none, and a flipped bit in a weight would go on unnoticed.
#include "model/safetensors.h"

namespace realfake {

// Call last, when all tensors and metadata are in: adds the metadata `checksums` (a digest of each
// tensor) and `checksum` (of all metadata).
void seal(SafetensorsWriter& w);
// InputError `FILE: checksum mismatch in 'NAME'` when anything differs from what was sealed, or
// when nothing was.
void check_seal(const SafetensorsFile& f);

}  // namespace realfake
