"""axe-core finds nothing serious in the site's pages."""

import axe
import pytest

PAGES = (
    "index.html",
    "lessons/index.html",
    "lessons/01_instance_segmentation/lesson.html",
    "lessons/03_boxes_and_anchors/lesson.html",
    "lessons/04_matching_anchors/lesson.html",
    "lessons/04k_matching_kernels/lesson.html",
    "lessons/06_non_maximum_suppression/lesson.html",
    "lessons/06k_nms_kernels/lesson.html",
    "lessons/07_roi_align/lesson.html",
    "lessons/07k_roi_align_kernels/lesson.html",
    "lessons/10_keypoint_head/lesson.html",
    "lessons/13_coco_evaluation/lesson.html",
    "lessons/16_your_own_pictures/lesson.html",
    "api/ops.html",
    "try.html",
)


@pytest.fixture(scope="module")
def program():
    return axe.script()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_nothing_serious(address, chromium, program, page, scheme):
    axe.dress(chromium, scheme)
    chromium.get(address + page)
    assert axe.serious(chromium, program) == []


def test_axe_sees_what_is_wrong(chromium, program):
    chromium.get(
        "data:text/html,<html lang=en><title>x</title><main><h1>x</h1><img src='data:,'><p style='color: %23ccc'>faint"
    )
    assert {each[0] for each in axe.violations(chromium, program)} >= {"image-alt", "color-contrast"}
