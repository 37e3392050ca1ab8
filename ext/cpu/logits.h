// logits: rows · weightsᵀ of bfloat16 in float32, what chunk_select takes from a vocabulary tile.
//
// A task owns 32 rows of weights, packs them transposed and multiplies all rows with them; a sum is float32 and goes on
// from the first pair to the last. Scratch: 128 bytes a pair, a worker.
#pragma once

#include "cpu/row_block.h"
#include "cpu/tasks.h"

namespace pcbench::PCBENCH_ISA {

#ifdef PCBENCH_PAIRS

class LogitsOfPairs {
 public:
  static int64_t scratch_floats(const Logits& p) { return task_workers() * worker_floats(p); }

  LogitsOfPairs(const Logits& p, float* scratch) : p_(p), scratch_(scratch), pairs_(p.depth / 2) {}

  void run() {
    auto task = [&](int64_t panel, int worker) {
      TaskGuard guard;
      auto* weights = reinterpret_cast<uint32_t*>(scratch_ + worker * worker_floats(p_));
      const int64_t first = panel * tile_columns;
      const int columns = static_cast<int>(smaller<int64_t>(tile_columns, p_.columns - first));
      pack(first, columns, weights);
      multiply(first, columns, weights);
    };
    for_each_task((p_.columns + tile_columns - 1) / tile_columns, task, p_.rows * p_.columns * pairs_);
  }

 private:
  // vectors of pairs are packed as a whole
  static int64_t worker_floats(const Logits& p) {
    return (p.depth / 2 + Vec::width - 1) / Vec::width * Vec::width * tile_columns;
  }

  const uint16_t* row(const Floats& x, int64_t i) const {
    return static_cast<const uint16_t*>(x.data) + i * x.strides[0];
  }

  // to[k, j]: pair k of row first + j of the weights; anything from `columns` on.
  void pack(int64_t first, int columns, uint32_t* to) const {
    const int64_t whole = pairs_ / Vec::width * Vec::width;
    for (int half = 0; half < tile_columns; half += Vec::width) {
      const uint16_t* from[Vec::width];
      for (int j = 0; j < Vec::width; ++j) {
        from[j] = row(p_.weights, first + smaller(half + j, columns - 1));
      }
      for (int64_t k = 0; k < whole; k += Vec::width) {
        pack_block(from, k, [](const uint16_t* pairs) { return load_bits(pairs); }, to + k * tile_columns + half);
      }
      if (whole < pairs_) {
        auto load_rest = [&](const uint16_t* pairs) {
          uint16_t rest[2 * Vec::width] = {};
          __builtin_memcpy(rest, pairs, (pairs_ - whole) * sizeof(uint32_t));
          return load_bits(rest);
        };
        pack_block(from, whole, load_rest, to + whole * tile_columns + half);
      }
    }
  }

  // 32 bits of any kind.
  static Vec load_bits(const uint16_t* pairs) { return Vec::load(reinterpret_cast<const float*>(pairs)); }

  template <class Load>
  [[gnu::always_inline]] static void pack_block(const uint16_t* const* from, int64_t k, Load load, uint32_t* to) {
    Vec block[Vec::width];
    for (int j = 0; j < Vec::width; ++j) {
      block[j] = load(from[j] + 2 * k);
    }
    transpose(block);
    for (int j = 0; j < Vec::width; ++j) {
      block[j].store(reinterpret_cast<float*>(to + j * tile_columns));
    }
  }

  // The rows from `top` on that a register tile takes where tiles are as equal as can be.
  int rows_from(int64_t top) const {
    const int64_t left = p_.rows - top, tiles = (left + most_rows - 1) / most_rows;
    return static_cast<int>((left + tiles - 1) / tiles);
  }

  void multiply(int64_t first, int columns, const uint32_t* weights) const {
#ifdef PCBENCH_TILES
    if (p_.rows >= 16 && columns == tile_columns) {
      multiply_tiles(first, weights);
      return;
    }
#endif
    for (int64_t top = 0; top < p_.rows;) {
      const int rows = rows_from(top);
      float* out = p_.out + top * p_.columns + first;
      multiply_rows<most_rows>(rows, row(p_.a, top), p_.a.strides[0], weights, out, columns);
      top += rows;
    }
  }

#ifdef PCBENCH_TILES
  // At least 16 rows; where a tile begins with rows of the one before, their logits are made twice.
  void multiply_tiles(int64_t first, const uint32_t* weights) const {
    constexpr int at_once = 16;
    const int64_t whole = pairs_ / at_once * at_once, stride = p_.a.strides[0] * 2;
    int count;
    for (int64_t top = 0; top < p_.rows; top += count) {
      count = p_.rows - top >= 2 * at_once ? 2 * at_once : at_once;
      top = smaller(top, p_.rows - count);
      // pairs behind the last whole tile, filled up with 0
      uint32_t rest[2 * at_once][at_once] = {};
      for (int i = 0; i < count && whole < pairs_; ++i) {
        __builtin_memcpy(rest[i], row(p_.a, top + i) + 2 * whole, (pairs_ - whole) * sizeof rest[i][0]);
      }
      // the intrinsics that load tiles do not say that they read memory
      __asm__ volatile("" ::: "memory");
      constexpr int64_t panel = tile_columns * sizeof *weights;
      zero_sums();
      for (int64_t k = 0; k < whole; k += at_once) {
        add_products(count, row(p_.a, top) + 2 * k, stride, weights + k * tile_columns, panel);
      }
      if (whole < pairs_) {
        add_products(count, rest, sizeof rest[0], weights + whole * tile_columns, panel);
      }
      store_sums(count, p_.out + top * p_.columns + first, p_.columns);
    }
  }
#endif

  // Rows and fewer.
  template <int Rows>
  void multiply_rows(int rows, const uint16_t* a, int64_t stride, const uint32_t* weights, float* out,
                     int columns) const {
    if constexpr (Rows > 1) {
      if (rows < Rows) {
        multiply_rows<Rows - 1>(rows, a, stride, weights, out, columns);
        return;
      }
    }
    Vec sums[Rows][2];
    for (int i = 0; i < Rows; ++i) {
      sums[i][0] = sums[i][1] = Vec::zero();
    }
    for (int64_t k = 0; k < pairs_; ++k, a += 2, weights += tile_columns) {
      const Pairs left = load(weights), right = load(weights + Vec::width);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        const Pairs x = broadcast(reinterpret_cast<const uint32_t*>(a + i * stride));
        sums[i][0] = fma(x, left, sums[i][0]);
        sums[i][1] = fma(x, right, sums[i][1]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i, out += p_.columns) {
      if (columns == tile_columns) {
        sums[i][0].store(out);
        sums[i][1].store(out + Vec::width);
      } else {
        float all[tile_columns];
        sums[i][0].store(all);
        sums[i][1].store(all + Vec::width);
        __builtin_memcpy(out, all, columns * sizeof(float));
      }
    }
  }

  // 24 of 32 registers accumulate
  static constexpr int most_rows = 12;

  const Logits& p_;
  float* scratch_;
  int64_t pairs_;
};

#endif

}  // namespace pcbench::PCBENCH_ISA
