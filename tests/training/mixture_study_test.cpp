// The claim of 1991: experts that compete share a problem out among them, and the gate learns which is whose.
#include "training/mixture_study.h"

#include <fstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

namespace switchyard {
namespace {

TEST(MixtureStudy, CompetingExpertsTakeAPieceEachWhateverTheSeed) {
  auto config = load_mixture_study(SWITCHYARD_SOURCE_DIR "/configs/adaptive_mixture.yaml");
  for (int64_t seed = 1; seed <= 4; ++seed) {
    config.seed = seed;
    const auto result = run_mixture_study(config);
    EXPECT_GT(result.separation, 0.97) << seed;
    EXPECT_EQ(result.num_owners, config.pieces) << seed;
    EXPECT_LT(result.squared_error, 0.01) << seed;  // the noise's is 0.0025
  }
}

TEST(MixtureStudy, CooperatingExpertsDoNot) {
  MixtureStudyConfig config;
  config.loss = MixtureLoss::kCooperative;
  EXPECT_GT(run_mixture_study(config).squared_error, 0.1);  // of the preferred expert: none means anything alone
}

std::string refusal(const std::string& text) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "study.yaml";
  std::ofstream(path) << text;
  try {
    load_mixture_study(path.string());
  } catch (const UserError& error) {
    return std::string(error.what()).substr(path.string().size());
  }
  return "";
}

TEST(MixtureStudyConfig, RefusesWithPlaceAndRule) {
  EXPECT_EQ(refusal("pieces: 2\n"), "");
  EXPECT_EQ(refusal("pieces: 2\nexperts: 4\n").substr(0, 38), ":2: experts = 4 is not a known key; kn");
  EXPECT_EQ(refusal("loss: angry\n"), ":1: loss = angry is not one of competitive, cooperative");
  EXPECT_EQ(refusal("cases: 0\n").substr(0, 14), ":1: cases = 0 ");
}

}  // namespace
}  // namespace switchyard
