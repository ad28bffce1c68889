#include "core/host_copy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/rotary.h"

namespace switchyard {
namespace {

TEST(HostCopy, CopiesNothingWhereTheDeviceIsTheHost) {
  const auto tensor = at::arange(6).view({2, 3}).t();
  EXPECT_TRUE(to_host(tensor).is_same(tensor));
  EXPECT_TRUE(to_device(tensor, at::kCPU).is_same(tensor));
}

// The meta device has shapes and no values: enough to see where a table stands.
TEST(HostCopy, TheRotaryTableFollowsTheModelToItsDevice) {
  RotaryTable table(/*max_positions=*/8, /*head_dim=*/4, /*theta=*/1e4);
  table.move_to(at::kMeta);
  const auto rotated = table.rotate(at::empty({2, 3, 5, 4}, at::dtype(at::kBFloat16).device(at::kMeta)));
  EXPECT_TRUE(rotated.is_meta());
  EXPECT_EQ(rotated.sizes(), (at::IntArrayRef{2, 3, 5, 4}));
}

}  // namespace
}  // namespace switchyard
