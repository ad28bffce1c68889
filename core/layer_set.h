// Which blocks of a model have something.
#pragma once

#include <cstdint>
#include <vector>

namespace switchyard {

/// `every` n: blocks n-1, 2n-1, ... (n = 1: all of them). `first_dense` n: all but the first n. A list without items: none.
struct LayerSet {
  enum class Kind { kEvery, kFirstDense, kList };
  Kind kind = Kind::kEvery;
  int64_t count = 1;               ///< n of `every` or `first_dense`
  std::vector<int64_t> list = {};  ///< block numbers from 0, ascending (kList)

  static LayerSet none() { return {.kind = Kind::kList}; }
  bool contains(int64_t layer) const;
  bool is_none() const { return kind == Kind::kList && list.empty(); }
};

}  // namespace switchyard
