#pragma once
// y [rows, outputs] = x [rows, columns] · Wᵀ for a weight W [outputs, columns] in its stored type.
//
// Promise (design: determinism): the bits of y[r][o] depend on row r of x, on row o of W, on the
// type and on the arithmetic, never on the number of rows, on threads or on which of the code paths
// ran. AVX2 and AVX-512 give equal bits.
//
// Layout: weight rows are packed in panels of 16, so that 16 outputs are the lanes of a vector and
// no sum crosses lanes. A panel takes exactly the bytes of its 16 stored rows.

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/tensor_type.h"

namespace adze::kernels {

constexpr int64_t kPanelRows = 16;

enum class Arithmetic : uint8_t {
  // The sum over columns in rising order, one fused multiply-add a column from zero, of x times the
  // dequantised f32 weight.
  kF32,
  // x is rounded to 8 bits, 32 columns sharing a scale (their largest magnitude / 127), as
  // llama.cpp does. Products within the 16 or 32 columns that share a scale of the weight are exact
  // integers; their sums are scaled and added in rising order in f32.
  kInt8,
};

struct PackedMatrix {
  core::TensorType type;
  int64_t outputs;          // rows of W
  int64_t columns;          // a multiple of the type's block
  const std::byte* panels;  // ceil(outputs / 16) panels, 64-byte aligned
  Arithmetic arithmetic = Arithmetic::kF32;
};

// f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs
bool has_packed_form(core::TensorType type);

// Whether the type's weights are codes, which kInt8 needs: all but f32, f16 and bf16.
bool has_int8_products(core::TensorType type);

// Bytes of all panels; missing rows of the last panel are zero.
int64_t packed_bytes(core::TensorType type, int64_t outputs, int64_t columns);

// Packs one panel from 16 stored rows; nullptr stands for a row of zeros.
void pack_panel(core::TensorType type,
                int64_t columns,
                std::span<const std::byte* const, kPanelRows> rows,
                std::byte* panel);

// The f32 values of one weight row, exactly as the product uses them. output [columns]
void unpack_row(const PackedMatrix& weight, int64_t output_row, float* output);

struct MatmulOutput {
  PackedMatrix weight;
  float* y;        // [rows, outputs], y + r * stride
  int64_t stride;  // floats from one row to the next
};

// Several weights over the same x in one parallel region. x [rows, columns], contiguous; y must not
// overlap x. Reads the weights once: memory bound up to about 8 rows, then 2 * rows * outputs *
// columns flops. A non-finite value in a row of x makes that row of y non-finite.
void packed_matmul(const float* x,
                   int64_t rows,
                   int64_t columns,
                   std::span<const MatmulOutput> outputs);

// Values as kInt8 sees them: the nearest multiples of the scale of their 32 columns. count: a
// multiple of 32.
void round_to_int8_reference(const float* x, int64_t count, float* rounded);

// The specification: double accumulation over unpacked rows, of x or of rounded x; |difference| of
// the fast one is at most columns * 2^-24 * sum |x w|.
void packed_matmul_reference(const float* x,
                             int64_t rows,
                             int64_t columns,
                             std::span<const MatmulOutput> outputs);

}  // namespace adze::kernels
