# docker build -t switchyard .
# docker run --rm -it --cap-add=SYS_PTRACE switchyard scripts/train.sh configs/quickstart.yaml -n 2
# SYS_PTRACE lets ranks copy from one another's memory directly; without it scripts/train.sh chooses a slower way by itself.
FROM debian:bookworm-slim
WORKDIR /opt/switchyard
ENV PIP_NO_CACHE_DIR=1

# The set-up alone first: it changes rarely, and takes the longest.
COPY scripts/setup.sh scripts/
RUN scripts/setup.sh && rm -rf /var/lib/apt/lists/*

COPY . .
RUN scripts/build.sh release
CMD ["build/release/switchyard", "--help"]
