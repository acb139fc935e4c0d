#!/usr/bin/env bash
# Makes the sandbox's videos, src/sandbox/videos/*.mp4, which are committed: neither build nor tests run this.
# Made with ffmpeg 5.1.9 (Debian 12) and DejaVu Sans. Another version makes other bytes, which is fine: nothing depends on them.
#
# Each is a real, playable MP4 (H.264 yuv420p, AAC where there is sound, moov in front) of the length and shape that was
# asked for, and as small as that allows, since all of them are inside the binary.
set -euo pipefail

out=$(cd "$(dirname "$0")/.." && pwd)/src/sandbox/videos
font=${FONT:-/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf}
mkdir -p "$out"

make_video() { # NAME WIDTH HEIGHT SHAPE SECONDS
  local name=$1 width=$2 height=$3 shape=$4 seconds=$5
  local label="drawtext=fontfile=$font:fontcolor=white@0.92:x=(w-text_w)/2"
  local picture="gradients=s=${width}x${height}:r=10:n=4:c0=#10243f:c1=#2b5f75:c2=#c9785d:c3=#3a2a55:x0=0:y0=0:x1=$width:y1=$height:seed=75:speed=0.01:d=$seconds"
  local filter="$label:text='klingd sandbox':fontsize=30:y=(h/2)-34"
  filter+=",$label:text='${shape/:/\\:}   $seconds s':fontsize=18:y=(h/2)+10"
  filter+=",format=yuv420p"
  # The chord is faded at both ends, so that a player that loops it does not click.
  local sound="0.10*sin(2*PI*220*t)+0.07*sin(2*PI*277.18*t)+0.05*sin(2*PI*329.63*t)"

  ffmpeg -hide_banner -loglevel error -y \
    -f lavfi -i "$picture" -f lavfi -i "aevalsrc=$sound:s=16000:d=$seconds" \
    -vf "$filter" -af "afade=in:d=0.5,afade=out:st=$((seconds - 1)):d=1" -t "$seconds" \
    -c:v libx264 -preset veryslow -tune animation -crf 33 -g 300 -threads 1 -profile:v high \
    -c:a aac -b:a 8k -ac 1 \
    -map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact -movflags +faststart \
    "$out/$name-sound.mp4"
  ffmpeg -hide_banner -loglevel error -y -i "$out/$name-sound.mp4" -an -c:v copy \
    -map_metadata -1 -fflags +bitexact -movflags +faststart "$out/$name-silent.mp4"
}

for seconds in ${SECONDS_LIST:-$(seq 3 15)}; do
  make_video "16x9-$seconds" 480 270 16:9 "$seconds"
  make_video "9x16-$seconds" 270 480 9:16 "$seconds"
  make_video "1x1-$seconds" 360 360 1:1 "$seconds"
done
du -cb "$out"/*.mp4 | tail -n 1
