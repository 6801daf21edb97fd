"""Ready configurations of published data sets, on small made-up file sets of the same layout."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from ecdctr.config import load_config
from ecdctr.etl.ingest import look_through

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

CONF = Path(__file__).parents[2] / "conf" / "datasets"
ROWS, DAYS, USERS, ITEMS = 90, 3, 6, 12
BEIJING = 8 * 3600


def seconds(rng, rows: int, first: str, clock: int = 0) -> np.ndarray:
    start = int(pd.Timestamp(first).timestamp()) - clock
    return start + rng.choice(DAYS * 86_400, rows, replace=False)


def write(path: Path, frame: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)


def kuairand(root: Path, rng) -> dict[str, pd.DataFrame]:
    data = root / "KuaiRand-Pure" / "data"
    names = ["is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "play_time_ms"]
    rest = ["profile_stay_time", "comment_stay_time", "is_profile_enter"]
    time = seconds(rng, ROWS, "2022-04-08", BEIJING)
    log = pd.DataFrame({"user_id": rng.integers(0, USERS, ROWS), "video_id": rng.integers(0, ITEMS, ROWS)})
    log = log.assign(date=20220408, hourmin=1200, time_ms=time * 1000, is_click=rng.integers(0, 2, ROWS))
    log = log.assign(**dict.fromkeys(names, 0), duration_ms=rng.integers(5, 90, ROWS) * 1000, **dict.fromkeys(rest, 0))
    log = log.assign(is_rand=0, tab=rng.integers(0, 3, ROWS))
    for place, name in enumerate(("standard_4_08_to_4_21", "standard_4_22_to_5_08", "random_4_22_to_5_08")):
        part = log[place::3].assign(is_rand=int(place == 2))
        write(data / f"log_{name}_pure.csv", part)
    write(
        data / "user_features_pure.csv",
        pd.DataFrame({"user_id": range(USERS)}).assign(
            user_active_degree="full_active", follow_user_num_range="(0,10]", register_days_range="61-90",
            onehot_feat1=1, onehot_feat4=2.0,
        ),
    )  # fmt: skip
    videos = pd.DataFrame({"video_id": range(ITEMS)})
    videos = videos.assign(
        author_id=videos["video_id"] % 4, video_type=np.where(videos["video_id"] < 4, "AD", "NORMAL"),
        upload_dt="2022-04-01", upload_type="LongImport", visible_status=0, video_duration=9.0, server_width=1,
        server_height=1, music_id=3, music_type=4.0, tag=[f"{i % 5},{i % 3}" for i in range(ITEMS)],
    )  # fmt: skip
    write(data / "video_features_basic_pure.csv", videos)
    event = log.assign(user=log["user_id"], item=log["video_id"], label=log["is_click"], second=time)
    return {"ad": event[event["item"] < 4], "natural": event[event["item"] >= 4]}


def digix(root: Path, rng) -> dict[str, pd.DataFrame]:
    def minutes(rows):
        return pd.to_datetime(seconds(rng, rows, "2022-06-03") // 60 * 60, unit="s").strftime("%Y%m%d%H%M").astype(str)

    def several():
        return ["^".join(map(str, rng.integers(1, 9, 5))) for _ in range(ROWS)]

    feeds = pd.DataFrame({"u_userId": rng.integers(0, USERS, ROWS)}).assign(
        u_phonePrice=10, u_browserLifeCycle=17, u_browserMode=13, u_feedLifeCycle=15, u_refreshTimes=3,
        u_newsCatInterests=several(), u_newsCatDislike="0", u_newsCatInterestsST=several(), u_click_ca2_news=several(),
        i_docId=[f"d{d}" for d in rng.integers(0, ITEMS, ROWS)], i_s_sourceId="s", i_regionEntity=0,
        i_cat=rng.integers(0, 4, ROWS), i_entities="e^f", i_dislikeTimes=0, i_upTimes=1, i_dtype=13, e_ch=19,
        e_m=rng.integers(0, 3, ROWS), e_po=range(ROWS), e_pl=1, e_rn=1, e_section=rng.integers(0, 2, ROWS),
        e_et=minutes(ROWS), label=rng.choice([-1, 1], ROWS), cillabel=-1, pro=0,
    )  # fmt: skip
    write(root / "digix2022" / "train" / "train_data_feeds.csv", feeds)
    ads = pd.DataFrame({"log_id": range(ROWS), "label": rng.integers(0, 2, ROWS)}).assign(
        user_id=rng.integers(0, USERS, ROWS), age=8, gender=2, residence=16, city=147, city_rank=2, series_dev=32,
        series_group=6, emui_dev=14, device_name=rng.integers(0, 3, ROWS), device_size=2117, net_type=7,
        task_id=rng.integers(0, ITEMS, ROWS), adv_id=rng.integers(0, ITEMS, ROWS), creat_type_cd=8, adv_prim_id=207,
        inter_type_cd=4, slot_id=rng.integers(0, 2, ROWS), site_id=1, spread_app_id=162, hispace_app_tags=48,
        app_second_class=18, app_score=10.0, ad_click_list_v001=several(), ad_click_list_v002=several(),
        ad_click_list_v003=several(), ad_close_list_v001="24107", ad_close_list_v002="1218", ad_close_list_v003="173",
        pt_d=minutes(ROWS), u_newsCatInterestsST=several(), u_refreshTimes=0, u_feedLifeCycle=15,
    )  # fmt: skip
    write(root / "digix2022" / "train" / "train_data_ads.csv", ads)

    def event(frame, user, item, time):
        at = pd.to_datetime(frame[time], format="%Y%m%d%H%M").astype("int64") // 10**9
        return frame.assign(user=frame[user], item=frame[item], second=at, label=(frame["label"] == 1).astype(int))

    return {"natural": event(feeds, "u_userId", "i_docId", "e_et"), "ad": event(ads, "user_id", "adv_id", "pt_d")}


def taobao(root: Path, rng) -> dict[str, pd.DataFrame]:
    folder = root / "taobao_ads"
    time = seconds(rng, 2 * ROWS, "2017-05-06", BEIJING)
    views = pd.DataFrame({"user": rng.integers(0, USERS, ROWS), "time_stamp": time[:ROWS]}).assign(
        btag=rng.choice(["pv", "pv", "pv", "cart", "buy"], ROWS), cate=rng.integers(0, 3, ROWS),
        brand=rng.integers(0, 4, ROWS),
    )  # fmt: skip
    write(folder / "behavior_log.csv", views)
    ads = pd.DataFrame({"user": rng.integers(0, USERS, ROWS), "time_stamp": time[ROWS:]}).assign(
        adgroup_id=rng.integers(0, ITEMS, ROWS), pid="430548_1007", clk=rng.integers(0, 2, ROWS)
    )
    ads.insert(4, "nonclk", 1 - ads["clk"])
    write(folder / "raw_sample.csv", ads)
    write(
        folder / "ad_feature.csv",
        pd.DataFrame({"adgroup_id": range(ITEMS)}).assign(
            cate_id=[i % 3 for i in range(ITEMS)], campaign_id=8, customer=1, brand=["NULL" if i == 0 else i % 4 for i in range(ITEMS)],
            price=rng.integers(1, 900, ITEMS) / 10,
        ),
    )  # fmt: skip
    profile = pd.DataFrame({"userid": range(USERS - 1)}).assign(
        cms_segid=0,
        cms_group_id=5,
        final_gender_code=2,
        age_level=5,
        pvalue_level=["" if i % 2 else 1 for i in range(USERS - 1)],
        shopping_level=3,
        occupation=0,
    )
    write(folder / "user_profile.csv", profile.assign(**{"new_user_class_level ": 3}))
    views = views[views["btag"] == "pv"].assign(label=1)
    views["item"] = views["cate"].astype(str) + "-" + views["brand"].astype(str)
    return {
        "natural": views.assign(second=views["time_stamp"]),
        "ad": ads.assign(item=ads["adgroup_id"], label=ads["clk"], second=ads["time_stamp"]),
    }


def movielens(root: Path, rng) -> dict[str, pd.DataFrame]:
    time = seconds(rng, ROWS, "2023-01-01")
    ratings = pd.DataFrame({"userId": rng.integers(1, USERS, ROWS), "movieId": rng.integers(1, ITEMS, ROWS)})
    ratings = ratings.assign(rating=rng.integers(1, 11, ROWS) / 2, timestamp=time)
    old = ratings[:5].assign(timestamp=1_000_000_000)
    write(root / "ml-32m" / "ratings.csv", pd.concat([old, ratings]))
    movies = pd.DataFrame({"movieId": range(1, ITEMS)})
    movies["title"] = [f'Film, The "{m}" (1999)' for m in movies["movieId"]]
    movies["genres"] = ["Action|Sci-Fi" if m % 3 == 0 else "Comedy|Drama" for m in movies["movieId"]]
    write(root / "ml-32m" / "movies.csv", movies)
    event = ratings.assign(user=ratings["userId"], item=ratings["movieId"], second=time)
    event["label"] = (event["rating"] >= 4).astype(int)
    return {"ad": event[event["item"] % 3 == 0], "natural": event[event["item"] % 3 != 0]}


LAYOUTS = {
    "kuairand_official": (kuairand, BEIJING), "digix2022": (digix, 0), "taobao_ads": (taobao, BEIJING),
    "movielens": (movielens, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_row_arrives_with_its_user_item_day_and_label(spark, name, tmp_path, monkeypatch):
    make, clock = LAYOUTS[name]
    events = make(tmp_path, np.random.default_rng(1))
    monkeypatch.setenv("ECDCTR_REAL_DATA", str(tmp_path))
    config = load_config(CONF / f"{name}.yml")
    for domain, raw in events.items():
        frame = look_through(spark, config.dataset, domain).frame
        # Seconds, since a time with a zone reaches pandas by a way that pandas warns of.
        rows = frame.withColumn("event_time", F.unix_timestamp("event_time")).toPandas()
        assert rows["_reason"].isna().all()
        days = pd.to_datetime((raw["second"] + clock) // 86_400, unit="D").dt.date
        wanted = raw[["user", "item"]].astype(str).assign(day=days, label=raw["label"])
        names = ["user_id", "item_id", "event_date", "label"]
        given = rows
        if name == "taobao_ads" and domain == "natural":
            check_made_rows(rows, raw)
            given = rows[rows["label"] == 1]
        assert sorted(map(tuple, given[names].to_numpy())) == sorted(map(tuple, wanted.to_numpy()))
        # A feature's column that is empty in both logs would be a name that nobody wrote.
        filled = {column for column in rows if rows[column].notna().any()}
        assert filled >= {"event_id", "event_time"}
        events[domain] = filled
    for spec in config.dataset.features:
        assert set(spec.log_columns()) <= events["natural"] | events["ad"], spec.name


def check_made_rows(rows, views):
    """Each view has up to four rows of its user and moment, with items viewed on its day and their own columns."""
    made = rows[rows["label"] == 0]
    assert 2.5 * len(views) < len(made) <= 4 * len(views)
    assert (made["item_id"] == made["cate_id"] + "-" + made["brand"]).all()
    moments = views.set_index(views["user"].astype(str) + " " + views["second"].astype(str))["item"]
    keys = made["user_id"] + " " + made["event_time"].astype(str)
    assert set(keys) <= set(moments.index)
    assert (made["item_id"].to_numpy() != moments[keys].to_numpy()).all()
    seen = set(zip((views["second"] + BEIJING) // 86_400, views["item"], strict=True))
    day = (pd.to_datetime(made["event_date"]) - pd.Timestamp(0)).dt.days
    assert set(zip(day, made["item_id"], strict=True)) <= seen
