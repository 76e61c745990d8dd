"""Every fault of a COCO-format data set is named."""

import time

import pytest
from PIL import Image
from pycocotools import mask as rle
from small_coco import TRIANGLE, H, W, changed, content, write

from mrcnn.data import CocoDataset, PictureError, report
from mrcnn.data.annotations import run_lengths


def break_picture(folder, kind: str) -> str:
    """Spoil picture 1; what the error has to say of it."""
    file = folder / "1.png"
    if kind == "missing":
        file.unlink()
        return r"image 8: .*1\.png is missing"
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:300])
    elif kind == "not a picture":
        file.write_text("hello")
    elif kind == "empty":
        file.write_bytes(b"")
    else:
        Image.new("RGB", (9, 9)).save(file)
        return r"image 8: .*1\.png is 9 x 9 pixels, but its annotations say 40 x 30"
    return r"image 8: .*1\.png cannot be read"


@pytest.mark.parametrize("kind", ["missing", "truncated", "not a picture", "empty", "other size"])
def test_broken_pictures(tmp_path, kind):
    arguments = write(tmp_path)
    message = break_picture(tmp_path, kind)
    with pytest.raises(PictureError, match=message):
        CocoDataset(*arguments)[1]
    if kind == "missing":
        with pytest.warns(UserWarning, match=message):
            dataset = CocoDataset(*arguments, on_error="skip")
        assert len(dataset) == 2
    else:
        dataset = CocoDataset(*arguments, on_error="skip")
        with pytest.warns(UserWarning, match=message):
            assert dataset[1][1]["image_id"] == 9  # the next one stands in
        with pytest.warns(UserWarning, match=message):
            assert len(dataset.drop_unreadable()) == 1
    assert [image["id"] for image in dataset.coco()["images"]] == [7, 9]
    assert [dataset[k][1]["image_id"] for k in range(2)] == [7, 9]
    assert message.split(":")[0] in str(report(*arguments))


def as_corners(bbox: list) -> list:
    x, y, width, height = bbox
    return [x, y, x + width, y + height]


def test_boxes_written_as_corners_are_told_by_their_masks(tmp_path):
    """In one sentence, however many: 102 has run lengths, 103 is a crowd, 104 has no mask that could tell."""
    whole = content()
    assert report(*write(tmp_path, whole)).problems == []
    whole["annotations"][0]["segmentation"] = [TRIANGLE]
    for one in whole["annotations"]:
        one["bbox"] = as_corners(one["bbox"])
    whole["annotations"][2]["bbox"] = [10, 3, 11, 9]
    assert report(*write(tmp_path, whole)).problems == [
        "annotation 101, 102, 103: the box is far from its mask, and would fit it if read as x1, y1, x2, y2; "
        "COCO wants x, y, width, height"
    ]


@pytest.mark.parametrize(
    ("bbox", "polygon"),
    [
        ([0, 0, 20, 15], [0, 0, 20, 0, 20, 15, 0, 15]),  # at the corner: both readings are the same box
        ([1, 1, 10, 10], [1, 1, 10, 1, 10, 10, 1, 10]),  # a pixel too wide, which is common
        ([2, 2, 30, 20], [15, 10, 32, 10, 32, 22, 15, 22]),  # far off, but corners would not fit either
        ([2, 2, 30, 20], [50, 2, 60, 2, 60, 20]),  # a mask beyond the picture: no pixel is its own
    ],
)
def test_other_boxes_are_not_called_corners(tmp_path, bbox, polygon):
    """Only a box that is far from its mask as it stands, and fits it as corners."""
    whole = content()
    whole["annotations"] = [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": bbox, "iscrowd": 0, "segmentation": [polygon]}
    ]
    assert report(*write(tmp_path, whole)).problems == []


def test_no_readable_picture_at_all(tmp_path):
    arguments = write(tmp_path)
    for k in range(3):
        (tmp_path / f"{k}.png").write_text("hello")
    dataset = CocoDataset(*arguments, on_error="skip")
    with pytest.warns(UserWarning, match="skipped image"), pytest.raises(PictureError, match="none of the 3"):
        dataset[0]


# --- faulty files

NOT_A_NUMBER = float("nan")
FAULTS = [
    (changed("images", 1, id="8"), "image record number 1: it must have a whole number as its id"),
    (
        changed("images", 1, id=2**63),
        "image record number 1: it must have a whole number as its id, of 64 bits; got 92233",
    ),
    (changed("annotations", 0, id=-(10**400)), "annotation record number 0: it must have a whole number as its id"),
    (changed("images", 1, id=7), "image 7: there are two with this id"),
    (changed("images", 1, file_name=None), "image 8: it must have a file_name"),
    (changed("images", 1, width=0), "image 8: width and height must be positive"),
    (changed("images", 1, height=None), "image 8: width and height must be positive"),
    (changed("images", 1, width=2**20, height=2**11), "image 8: it must have fewer than 2³¹ pixels"),
    (changed("categories", 0, id=1), "category 1: there are two with this id"),
    (changed("categories", 0, name=None), "category 18: it must have a name"),
    (changed("categories", 0, name="dog\ud800"), r"category 18: it must have a name; got 'dog\\ud800'"),
    (changed("categories", 1, keypoints=["\udfff"]), "category 1: its keypoints must be a list of names"),
    (changed("categories", 1, skeleton=[[1, 4]]), "category 1: its skeleton must be pairs of keypoints from 1 to 3"),
    (changed("categories", 1, skeleton=5), "category 1: its skeleton must be pairs of keypoints from 1 to 3"),
    (changed("categories", 1, skeleton=[[1, 2], 5]), "category 1: its skeleton must be pairs of keypoints"),
    (changed("categories", 0, keypoints=["tail"]), "category 1: its keypoints differ"),
    (changed("categories", 1, keypoints="nose"), "category 1: its keypoints must be a list of names"),
    (changed("annotations", 0, id=None), "annotation record number 0: it must have a whole number as its id"),
    (changed("annotations", 0, id=102), "annotation 102: there are two with this id"),
    (changed("annotations", 0, image_id=70), r"annotation 101: there is no \(sound\) image 70"),
    (changed("annotations", 0, image_id=[7]), r"annotation 101: there is no \(sound\) image \[7\]"),
    (changed("annotations", 0, category_id=2), "annotation 101: there is no category 2"),
    (changed("annotations", 0, bbox=None), "annotation 101: bbox must be four finite numbers"),
    (changed("annotations", 0, bbox=[1, 2, 3]), "annotation 101: bbox must be four finite numbers"),
    (changed("annotations", 0, bbox=[1, 2, 3, NOT_A_NUMBER]), "annotation 101: bbox must be four finite numbers"),
    (changed("annotations", 0, bbox=[1, 2, 3, "4"]), "annotation 101: bbox must be four finite numbers"),
    (changed("annotations", 0, bbox=[1, 2, 3, 10**400]), "annotation 101"),
    (changed("annotations", 0, bbox=[1.5, 2, 3, 10**400]), "annotation 101"),
    (changed("annotations", 0, area=-1), "annotation 101: area must be a number, not negative"),
    (changed("annotations", 0, iscrowd=2), "annotation 101: iscrowd must be 0 or 1"),
    (changed("annotations", 0, segmentation=[[1, 2, 3, 4]]), "annotation 101: a polygon must be .* at least three"),
    (changed("annotations", 0, segmentation=[1, 2, 3, 4, 5, 6]), "annotation 101: a polygon must be a flat list"),
    (changed("annotations", 0, segmentation=[[1, 2, 3, 4, 5, "6"]]), "annotation 101: .* finite numbers only"),
    (changed("annotations", 0, segmentation=[[1, 2, 3, 4, 5, NOT_A_NUMBER]]), "annotation 101: .* finite numbers only"),
    (changed("annotations", 0, segmentation=[[1, 2, 3, 4, 5, 1e9]]), "annotation 101: .* beyond a million"),
    (changed("annotations", 0, segmentation=[[-9e5, -9e5, 9e5, 9e5] * 500] * 20), "annotation 101: the outline of its"),
    (changed("annotations", 0, segmentation=[[0, 0, 5e5, 0, 5e5, 1]]), "annotation 101: .* it is 1000001$"),
    (changed("annotations", 0, segmentation=[[1, 1, 2, 2, 1, 2]] * 10001), "annotation 101: .* at most 10000 polygons"),
    (changed("annotations", 0, segmentation=[[1, 1] * 1000001]), "annotation 101: the outline of its"),
    (changed("annotations", 0, segmentation="abc"), "annotation 101: segmentation must be polygons or run lengths"),
    (changed("annotations", 2, segmentation={"size": [W, H], "counts": [1200]}), "annotation 103: .* of size"),
    (changed("annotations", 2, segmentation={"size": [30.0, 40.0], "counts": [1200]}), "annotation 103: .* of size"),
    (changed("annotations", 2, segmentation={"size": [H, W], "counts": [1, 2]}), "annotation 103: .* add up to 3"),
    (changed("annotations", 2, segmentation={"size": [H, W], "counts": [1300, -100]}), "annotation 103: .* whole"),
    (changed("annotations", 2, segmentation={"size": [H, W], "counts": "0P1000"}), "annotation 103: .* add up"),
    (changed("annotations", 2, segmentation={"size": [H, W], "counts": "é"}), "annotation 103: .* the character"),
    (changed("annotations", 2, segmentation={"size": [H, W], "counts": "o" * 9}), "annotation 103: .* more than 7"),
    (changed("annotations", 2, segmentation={"size": [H, W], "counts": "0" * 9999}), "annotation 103: .* most 8407"),
    (changed("annotations", 2, segmentation={"size": [H, W], "counts": "P"}), "annotation 103: .* cut short"),
    (changed("annotations", 2, segmentation={"size": [H, W]}), "annotation 103: the run lengths must be"),
    (changed("annotations", 1, keypoints=[1, 2, 2]), "annotation 102: keypoints must be 3 times x, y, v"),
    (changed("annotations", 1, keypoints=[1, 2, 3] * 3), "annotation 102: .* each v 0, 1 or 2"),
    (changed("annotations", 1, keypoints=[1, NOT_A_NUMBER, 2] * 3), "annotation 102: keypoints must be finite"),
]


@pytest.mark.parametrize(("whole", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_faulty_records_are_named(tmp_path, whole, message):
    arguments = write(tmp_path, whole)
    with pytest.raises(ValueError, match=message):
        CocoDataset(*arguments)
    with pytest.warns(UserWarning, match=message):  # or left out, where one chooses so
        dataset = CocoDataset(*arguments, on_error="skip")
    for k in range(len(dataset)):
        dataset[k]


@pytest.mark.parametrize("name", ["../0.png", "/etc/passwd", "a/../../0.png", "..", r"..\0.png", "C:/0.png", "a\0b"])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"image 8: its file_name .* leaves the data folder"):
        CocoDataset(*write(tmp_path, changed("images", 1, file_name=name)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100000, "is not JSON"),
        ("[]", 'it has no list "images"'),
        ('{"images": []}', 'it has no list "annotations"'),
        ('{"images": [], "annotations": [], "categories": {}}', 'it has no list "categories"'),
    ],
)
def test_files_of_another_form(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        CocoDataset(tmp_path, tmp_path / "a.json")


def test_many_faults_are_counted(tmp_path):
    whole = content()
    whole["annotations"] = [{"id": k} for k in range(20)]
    with pytest.raises(ValueError, match=r"annotation 0: .*; and 15 more"):
        CocoDataset(*write(tmp_path, whole))


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match='on_error must be "raise" or "skip"'):
        CocoDataset(*write(tmp_path), on_error="ignore")
    with pytest.raises(FileNotFoundError, match=r"no\.json"):
        CocoDataset(tmp_path, tmp_path / "no.json")
    with pytest.raises(IndexError):
        CocoDataset(*write(tmp_path))[3]


def test_a_file_without_categories_is_refused(tmp_path):
    for categories in ([], [{"id": 0, "name": "background"}]):
        arguments = write(tmp_path, content(categories=categories, annotations=[]))
        with pytest.raises(ValueError, match="has no categories"):
            CocoDataset(*arguments)
    arguments = write(tmp_path, content(categories=[{"id": "1", "name": "person"}], annotations=[]))
    with pytest.warns(UserWarning, match="category record number 0"), pytest.raises(ValueError, match="no categories"):
        CocoDataset(*arguments, on_error="skip")


def test_the_largest_outline_is_drawn_at_once(tmp_path):
    """What is just within the limits of outline and polygons is no burden, and drawn rightly."""
    polygons = [[0, y % H, 45, (y + 7) % H, 0, (y + 1) % H] for y in range(9999)]
    whole = changed("annotations", 0, segmentation=polygons)
    began = time.perf_counter()
    dataset = CocoDataset(*write(tmp_path, whole))
    mask = dataset[0][1]["masks"][0].numpy()
    assert time.perf_counter() - began < 10
    assert (mask == rle.decode(rle.frPyObjects(polygons, H, W)).any(2)).all()


def test_long_run_lengths_are_read_in_linear_time():
    """Ten times the characters take ten times as long, not a hundred times."""
    seconds = []
    for count in (100_000, 1_000_000):
        began = time.perf_counter()
        with pytest.raises(ValueError, match="more than 7 characters"):
            run_lengths("o" * count)
        assert run_lengths("1" * count)[:4] == [1, 1, 1, 2]
        seconds.append(time.perf_counter() - began)
    assert seconds[1] < 40 * seconds[0]


def test_categories_of_one_name_are_told(tmp_path):
    """Legal, and most often a mistake: a model that knows one person cannot tell two apart."""
    data = content()
    data["categories"].append(dict(data["categories"][0], id=77))
    name = data["categories"][0]["name"]
    with pytest.warns(UserWarning, match=rf"categories of one name, {name} \(\d+\), {name} \(77\)"):
        CocoDataset(*write(tmp_path, data))
