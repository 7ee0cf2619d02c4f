#pragma once
// What a set of tensor names belongs to, for people: "UNet (diffusers)", "LoRA (kohya)" ...
#include <string>
#include <vector>

namespace realfake {

std::string network_kind(const std::vector<std::string>& names);

}  // namespace realfake
