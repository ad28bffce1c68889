#include "training/metrics_log.h"

#include <bit>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/training/data_files.h"

namespace switchyard {
namespace {

class Metrics : public DataFiles {
 protected:
  Metrics() : log_path_(path("metrics.jsonl")) {}
  std::string cut(const std::string& text, int64_t step) const {
    write("metrics.jsonl", text);
    cut_back(log_path_, step);
    return read("metrics.jsonl");
  }
  std::string log_path_;
};

TEST_F(Metrics, AreOneLineARecordReadableAtOnce) {
  MetricsLog log(log_path_);
  log.write({{"step", 1}, {"loss", 0.5}});
  EXPECT_EQ(read("metrics.jsonl"), "{\"loss\":0.5,\"step\":1}\n");
  log.write({{"step", 2}});
  EXPECT_EQ(read("metrics.jsonl"), "{\"loss\":0.5,\"step\":1}\n{\"step\":2}\n");
}

TEST_F(Metrics, AreAppendedToWhatIsThere) {
  write("metrics.jsonl", "{\"step\":1}\n");
  MetricsLog(log_path_).write({{"step", 2}});
  EXPECT_EQ(read("metrics.jsonl"), "{\"step\":1}\n{\"step\":2}\n");
}

TEST_F(Metrics, ReadDoublesBackToTheSameBits) {
  uint64_t state = 1;
  for (int i = 0; i < 2000; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const auto value = std::bit_cast<double>(state);
    if (!std::isfinite(value)) continue;
    const double back = nlohmann::json::parse(nlohmann::json(value).dump()).get<double>();
    ASSERT_EQ(std::bit_cast<uint64_t>(back), state) << value;
  }
  for (const double value : {0.1, -0.0, 1.0, 1e300, std::numeric_limits<double>::denorm_min(), std::numeric_limits<double>::max()}) {
    const double back = nlohmann::json::parse(nlohmann::json(value).dump()).get<double>();
    EXPECT_EQ(std::bit_cast<uint64_t>(back), std::bit_cast<uint64_t>(value)) << value;
  }
}

TEST_F(Metrics, ReadFloatsBackToTheSameBits) {
  for (const float value : {0.1F, 1.0F / 3.0F, 16777216.0F, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max()}) {
    const auto back = nlohmann::json::parse(nlohmann::json(value).dump()).get<float>();
    EXPECT_EQ(std::bit_cast<uint32_t>(back), std::bit_cast<uint32_t>(value)) << value;
  }
}

TEST_F(Metrics, WriteNullForWhatJsonCannotHold) {
  MetricsLog(log_path_).write({{"step", 1}, {"loss", std::nan("")}});
  EXPECT_EQ(read("metrics.jsonl"), "{\"loss\":null,\"step\":1}\n");
}

TEST_F(Metrics, RefuseARecordWithoutAStep) {
  MetricsLog log(log_path_);
  EXPECT_ANY_THROW(log.write({{"loss", 1.0}}));
  EXPECT_ANY_THROW(log.write({{"step", 1.5}}));
}

TEST_F(Metrics, FailWhereTheFileCannotBeOpened) {
  EXPECT_THROW(MetricsLog(path("no/such/folder.jsonl")), RunError);
}

TEST_F(Metrics, FailOnAFullDisk) {
  MetricsLog log("/dev/full");
  EXPECT_THROW(log.write({{"step", 1}}), RunError);
}

TEST_F(Metrics, AreCutBackToAStep) {
  EXPECT_EQ(cut("{\"step\": 1}\n{\"step\":2,\"loss\":1.50}\n{\"step\":2,\"evaluation\":{}}\n{\"step\":3}\n", 2),
            "{\"step\": 1}\n{\"step\":2,\"loss\":1.50}\n{\"step\":2,\"evaluation\":{}}\n");
}

TEST_F(Metrics, AreCutBackByStepAndNotByPlace) {
  EXPECT_EQ(cut("{\"step\":3}\n{\"step\":1}\n", 2), "{\"step\":1}\n");
}

TEST_F(Metrics, LoseATornLastLine) {
  EXPECT_EQ(cut("{\"step\":1}\n{\"step\":2,\"lo", 5), "{\"step\":1}\n");
  EXPECT_EQ(cut("{\"step\":1}\n{\"step\":2,\"lo\n", 5), "{\"step\":1}\n");
  EXPECT_EQ(cut("{\"st", 5), "");
}

TEST_F(Metrics, LoseALastLineWithoutItsLineEnd) {
  // It may be the torn beginning of a longer number.
  EXPECT_EQ(cut("{\"step\":1}\n{\"step\":2}", 5), "{\"step\":1}\n");
}

TEST_F(Metrics, NameABrokenLineInTheMiddle) {
  const std::string text = "{\"step\":1}\nnot json\n{\"step\":3}\n";
  try {
    cut(text, 1);
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("metrics.jsonl:2: is no JSON object"), std::string::npos) << error.what();
  }
  EXPECT_EQ(read("metrics.jsonl"), text) << "left as it was";
}

TEST_F(Metrics, CountTheLinesThatWereDropped) {
  write("metrics.jsonl", "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st");
  EXPECT_EQ(cut_back(log_path_, 1), 3);
  EXPECT_EQ(cut_back(log_path_, 1), 0);
  EXPECT_EQ(cut_back(path("none.jsonl"), 1), 0);
  EXPECT_FALSE(std::filesystem::exists(path("none.jsonl")));
}

TEST_F(Metrics, LeaveNoTemporaryFile) {
  cut("{\"step\":1}\n{\"step\":2}\n", 1);
  EXPECT_FALSE(std::filesystem::exists(log_path_ + ".tmp"));
}

}  // namespace
}  // namespace switchyard
