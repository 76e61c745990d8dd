// What both NMS kernels begin with, on any device: boxes in the order in which they are visited.
#pragma once

#include <optional>

#include "checks.h"

namespace mrcnn {

struct SortedInput {
  Tensor boxes;  // (N, 4) contiguous, as given: row order[i] is the i-th to visit
  Tensor order;  // (N,) int64 rows of `boxes`, by group, and within a group by falling score, ties: lower row first
  std::optional<Tensor> groups;  // (N,) int64 group of the i-th visited box, rising; absent: they are all one group
  std::optional<Tensor> rank;  // (N,) int64 place of the i-th visited box by falling score over all groups; absent: i
};

// The stable ABI has these operators from PyTorch 2.10 on, the headers name them only later.
inline std::pair<Tensor, Tensor> stable_sort(const Tensor& values, bool descending) {
  using torch::stable::detail::from, torch::stable::detail::to;
  StableIValue stack[] = {from(values), from(std::optional<bool>(true)), from(int64_t(0)), from(descending)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack, TORCH_ABI_VERSION));
  return {to<Tensor>(stack[0]), to<Tensor>(stack[1])};
}

inline Tensor select_rows(const Tensor& values, const Tensor& rows) {
  using torch::stable::detail::from, torch::stable::detail::to;
  StableIValue stack[] = {from(values), from(int64_t(0)), from(rows)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::index_select", "", stack, TORCH_ABI_VERSION));
  return to<Tensor>(stack[0]);
}

inline SortedInput sort_input(
    const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& groups) {
  check_boxes("boxes", boxes, 4);
  const int64_t n = boxes.size(0);
  STD_TORCH_CHECK(
      scores.dim() == 1 && scores.size(0) == n && is_floating(scores.scalar_type()),
      "scores must be floating, one per box, ", n, " of them");
  check_same_device("scores", scores, "boxes", boxes);
  if (groups) {
    STD_TORCH_CHECK(
        groups->dim() == 1 && groups->size(0) == n && groups->scalar_type() == ScalarType::Long,
        "groups must be int64, one per box, ", n, " of them");
    check_same_device("groups", *groups, "boxes", boxes);
  }
  const Tensor rows = torch::stable::contiguous(boxes);
  const Tensor by_score = stable_sort(scores, /*descending=*/true).second;
  if (!groups) return {rows, by_score, std::nullopt, std::nullopt};
  const auto [group, rank] = stable_sort(select_rows(*groups, by_score), /*descending=*/false);
  return {rows, select_rows(by_score, rank), group, rank};
}

}  // namespace mrcnn
