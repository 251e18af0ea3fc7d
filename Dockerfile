FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements requirements
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --require-hashes -r requirements/image.txt \
 && pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml LICENSE ./
COPY docs/package.md docs/
COPY session_service session_service
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/venv/bin/pip install --no-deps /dist/*.whl
# Import all Lua scripts and the extras, so that a wheel without them fails the build.
RUN cd / && /opt/venv/bin/python -c \
    "import session_service.store.scripts, session_service.access.jwt, session_service.tracing.tracer"

FROM python:3.13-slim
RUN groupadd --gid 10001 sessions \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin sessions \
 && install --directory --owner sessions --group sessions --mode 700 /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 SESSION_DATA_DIR=/data HOST=0.0.0.0
# A number, because Kubernetes cannot check a name for runAsNonRoot.
USER 10001:10001
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
# There is no access control by default. It takes two lines (docs/security.md):
#   docker run -d --name sessions -e AUTH=on -v sessions:/data -p 127.0.0.1:3000:3000 session-service
#   docker exec sessions session-service keys create backend --scopes sessions:read,sessions:write
# A secret is read from a file if the name of its setting ends with _FILE, e.g. REDIS_URL_FILE=/run/secrets/redis-url.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["session-service", "healthcheck"]
ENTRYPOINT ["session-service"]
CMD ["serve"]
