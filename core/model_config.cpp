#include "core/model_config.h"

#include <algorithm>
#include <cmath>

namespace switchyard {

bool LayerSet::contains(int64_t layer) const {
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
  for (int64_t layer = 0; layer < num_blocks(); ++layer) {
    if (is_moe_layer(layer)) blocks.push_back(layer);
  }
  return blocks;
}

int64_t ModelConfig::num_experts_at(int64_t layer) const {
  const auto own = moe->num_experts_by_layer.find(layer);
  return own != moe->num_experts_by_layer.end() ? own->second : moe->num_experts;
}

ModelConfig ModelConfig::at_layer(int64_t layer) const {
  ModelConfig block = *this;
  for (auto* set : {&block.attention.full_layers, &block.attention.nope_layers}) {
    *set = set->contains(layer) ? LayerSet() : LayerSet::none();
  }
  if (is_moe_layer(layer)) {
    block.moe->num_experts = num_experts_at(layer);
  } else {
    block.moe.reset();
  }
  return block;
}

int64_t ModelConfig::rotary_dim() const {
  if (attention.is_latent()) return attention.qk_rope_head_dim;
  return static_cast<int64_t>(std::llround(rope.fraction * static_cast<double>(head_dim)));
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
