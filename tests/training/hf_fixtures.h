// Tiny models that transformers wrote, and what it computes with them: made by scripts/make_hf_fixtures.py tests/fixtures/hf --seed 1.
#pragma once

#include <filesystem>

namespace switchyard {

inline const std::filesystem::path kHfFixtures = SWITCHYARD_SOURCE_DIR "/tests/fixtures/hf";

}  // namespace switchyard
