#!/bin/sh
# Generates the loop of the origin: 12 s, 25 fps, one closed GOP per second, in the forms of HLS.
#
#   high-NN.ts   640x360 + AAC, MPEG-TS, one second per file
#   low-NN.ts    320x180 + AAC, MPEG-TS, one second per file
#   ll.mp4       320x180 + AAC, fragmented MP4, one fragment per 200 ms
#
# It needs ffmpeg with libx264 and drawtext (Debian: apt-get install ffmpeg fonts-dejavu-core). Run it in this folder.
#
# The loop must repeat without a gap, so
#   - audio is 32 kHz: 12 s are then exactly 375 AAC frames of 1024 samples (48 kHz would give 562.5);
#   - audio is encoded three times in a row and only the middle pass is kept, so that the first frame overlaps with the
#     last;
#   - the tone has a whole number of periods in 12 s, and every moving object returns to its start after 12 s.
set -eu

font=/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
quiet="-hide_banner -loglevel error -y"

# Audio: frames 375 to 749 of 37 s, with timestamps that start at zero.
ffmpeg $quiet -f lavfi -i "sine=frequency=330:sample_rate=32000:duration=37" -filter:a "volume=-9dB" -ac 1 \
	-c:a aac -b:a 16k -flags +bitexact "$work/tone.aac"
ffmpeg $quiet -i "$work/tone.aac" -c copy -bsf:a \
	"noise=drop='lt(n,375)+gte(n,750)',setts=ts=N*1024:duration=1024:time_base=1/32000" \
	-fflags +bitexact -f mp4 "$work/tone.mp4"

# picture WIDTH HEIGHT KBITS FILE: colour bars that drift around once in 12 s, a ball on an orbit, a clock, a counter.
picture() {
	w=$1 h=$2
	ball=$((h / 12))
	line=$((h / 90))
	box="box=1:boxcolor=0x0b0f14@0.8:boxborderw=$((h / 30))"
	ffmpeg $quiet \
		-f lavfi -i "color=0x0f151d:size=${w}x${h}:rate=25:duration=12" \
		-f lavfi -i "smptehdbars=size=${w}x${h}:rate=25:duration=12" \
		-f lavfi -i "color=0x3ddc97:size=${ball}x${ball}:rate=25:duration=12" \
		-f lavfi -i "color=0x4aa8ff:size=${w}x${line}:rate=25:duration=12" \
		-filter_complex "
			[1]crop=iw:ih/2:0:0,eq=saturation=0.75:brightness=-0.06,split[bars1][bars2];
			[0][bars1]overlay=x='mod(n*W/300,W)':y=H/4[a];
			[a][bars2]overlay=x='mod(n*W/300,W)-W':y=H/4[b];
			[b][2]overlay=x='(W-w)/2+W*0.44*cos(2*PI*n/150)':y='(H-h)/2+H*0.42*sin(2*PI*n/150)'[c];
			[c][3]overlay=x='-W+W*(n+1)/300':y=H-h[d];
			[d]drawtext=fontfile=$font:fontcolor=white:fontsize=$((h / 6)):$box:x=(w-tw)/2:y=h*0.36:text='%{eif\:floor(n/25)\:d\:2}.%{eif\:mod(n\,25)*4\:d\:2}',
			drawtext=fontfile=$font:fontcolor=0xc8d2dc:fontsize=$((h / 15)):$box:x=(w-tw)/2:y=h*0.63:text='frame %{eif\:n\:d\:3}  ${h}p'
		" -c:v libx264 -preset veryslow -profile:v main -bf 0 -pix_fmt yuv420p -level 3.0 -b:v "$3k" -maxrate "$3k" \
		-bufsize "$3k" -g 25 -keyint_min 25 -sc_threshold 0 -flags +cgop+bitexact -fflags +bitexact -threads 1 "$4"
}
picture 640 360 150 "$work/high.mp4"
picture 320 180 70 "$work/low.mp4"

for name in high low; do
	rm -f $name-*.ts
	ffmpeg $quiet -i "$work/$name.mp4" -i "$work/tone.mp4" -map 0:v -map 1:a -c copy -fflags +bitexact \
		-muxdelay 0 -muxpreload 0 -f segment -segment_time 1 -segment_format mpegts -reset_timestamps 0 \
		-segment_format_options pes_payload_size=1000:pcr_period=80:pat_period=60:sdt_period=60 "$name-%02d.ts"
done

# The video track comes first and cuts at each fifth frame; the audio frames in between follow it.
ffmpeg $quiet -i "$work/low.mp4" -i "$work/tone.mp4" -map 0:v -map 1:a -c copy -fflags +bitexact \
	-movflags empty_moov+default_base_moof+omit_tfhd_offset+skip_trailer -frag_duration 200000 -f mp4 ll.mp4

du -cb ./*.ts ll.mp4 | tail -1
