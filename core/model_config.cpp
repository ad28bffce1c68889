#include "core/model_config.h"

#include <algorithm>

namespace switchyard {

bool MoeLayers::contains(int64_t layer) const {
  switch (kind) {
    case Kind::kEvery:
      return (layer + 1) % count == 0;
    case Kind::kFirstDense:
      return layer >= count;
    case Kind::kList:
      break;
  }
  return std::ranges::binary_search(list, layer);
}

std::vector<int64_t> ModelConfig::moe_layers() const {
  std::vector<int64_t> blocks;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    if (is_moe_layer(layer)) blocks.push_back(layer);
  }
  return blocks;
}

ModelConfig ModelConfig::at_layer(int64_t layer) const {
  ModelConfig block = *this;
  if (!is_moe_layer(layer)) {
    block.moe.reset();
  } else if (const auto own = moe->num_experts_by_layer.find(layer); own != moe->num_experts_by_layer.end()) {
    block.moe->num_experts = own->second;
  }
  return block;
}

double Coefficient::at(int64_t step) const {
  const auto next = std::ranges::find_if(points, [&](const auto& point) { return point.first > step; });
  if (next == points.begin()) return points.front().second;
  const auto& [begin, from] = *std::prev(next);
  if (next == points.end()) return from;
  const auto& [end, to] = *next;
  return from + (to - from) * static_cast<double>(step - begin) / static_cast<double>(end - begin);
}

bool Coefficient::is_zero() const {
  return std::ranges::all_of(points, [](const auto& point) { return point.second == 0.0; });
}

}  // namespace switchyard
