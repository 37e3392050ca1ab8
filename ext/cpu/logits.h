// logits: rows · weightsᵀ of bfloat16 in float32, what chunk_select takes from a vocabulary tile.
//
// A task owns 32 rows of weights, packs them transposed and multiplies all rows with them; a sum is float32 and goes on
// from the first pair to the last. Scratch: 64 bytes a pair, a worker.
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
      FlushDenormals guard;
      auto* weights = reinterpret_cast<uint32_t*>(scratch_ + worker * worker_floats(p_));
      const int64_t first = panel * tile_columns;
      const int columns = static_cast<int>(smaller<int64_t>(tile_columns, p_.columns - first));
      pack(first, columns, weights);
      for (int64_t top = 0; top < p_.rows;) {
        top += multiply(top, first, columns, weights);
      }
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
    for (int64_t k = 0; k < pairs_; k += Vec::width) {
      const int64_t count = smaller<int64_t>(Vec::width, pairs_ - k);
      for (int half = 0; half < tile_columns; half += Vec::width) {
        Vec block[Vec::width];
        for (int j = 0; j < Vec::width; ++j) {
          // 32 bits of any kind
          const uint16_t* from = row(p_.weights, first + smaller(half + j, columns - 1)) + 2 * k;
          float rest[Vec::width] = {};
          if (count < Vec::width) {
            __builtin_memcpy(rest, from, count * sizeof(float));
          }
          block[j] = Vec::load(count < Vec::width ? rest : reinterpret_cast<const float*>(from));
        }
        transpose(block);
        for (int j = 0; j < Vec::width; ++j) {
          block[j].store(reinterpret_cast<float*>(to + (k + j) * tile_columns + half));
        }
      }
    }
  }

  // Some of the rows from `top` on; returns how many.
  int multiply(int64_t top, int64_t first, int columns, const uint32_t* weights) const {
    const int64_t left = p_.rows - top;
    return left >= 12  ? multiply_rows<12>(top, first, columns, weights)
           : left >= 4 ? multiply_rows<4>(top, first, columns, weights)
                       : multiply_rows<1>(top, first, columns, weights);
  }

  template <int Rows>
  int multiply_rows(int64_t top, int64_t first, int columns, const uint32_t* weights) const {
    Vec sums[Rows][2];
    for (int i = 0; i < Rows; ++i) {
      sums[i][0] = sums[i][1] = Vec::zero();
    }
    const uint16_t* a = row(p_.a, top);
    for (int64_t k = 0; k < pairs_; ++k, a += 2, weights += tile_columns) {
      const Pairs left = load(weights), right = load(weights + Vec::width);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        const Pairs x = broadcast(reinterpret_cast<const uint32_t*>(a + i * p_.a.strides[0]));
        sums[i][0] = fma(x, left, sums[i][0]);
        sums[i][1] = fma(x, right, sums[i][1]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      float* out = p_.out + (top + i) * p_.columns + first;
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
    return Rows;
  }

  const Logits& p_;
  float* scratch_;
  int64_t pairs_;
};

#endif

}  // namespace pcbench::PCBENCH_ISA
