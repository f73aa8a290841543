// Written by manifests/update from charts/carpool.
// The sidecar in both forms and its volumes, with the ConfigMap's name `carpool` to be replaced.
#pragma once

namespace carpool::cli {

inline constexpr char kInjectForms[] = R"yaml(
native:
  -
    args:
    - run
    - --config
    - /etc/carpool/carpool.yaml
    image: carpool:0.1.0
    imagePullPolicy: IfNotPresent
    livenessProbe:
      failureThreshold: 3
      httpGet:
        path: /livez
        port: carpool-admin
      periodSeconds: 10
      timeoutSeconds: 3
    name: carpool
    ports:
    - containerPort: 9930
      name: carpool-admin
      protocol: TCP
    resources:
      limits:
        memory: 64Mi
      requests:
        cpu: 10m
        memory: 16Mi
    restartPolicy: Always
    securityContext:
      allowPrivilegeEscalation: false
      capabilities:
        drop:
        - ALL
      readOnlyRootFilesystem: true
      runAsGroup: 65532
      runAsNonRoot: true
      runAsUser: 65532
      seccompProfile:
        type: RuntimeDefault
    startupProbe:
      failureThreshold: 60
      httpGet:
        path: /startupz
        port: carpool-admin
      periodSeconds: 1
      timeoutSeconds: 2
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
    - mountPath: /etc/carpool
      name: carpool-config
      readOnly: true
    - mountPath: /etc/carpool-secrets
      name: carpool-secrets
      readOnly: true
classic:
  -
    args:
    - run
    - --config
    - /etc/carpool/carpool.yaml
    image: carpool:0.1.0
    imagePullPolicy: IfNotPresent
    lifecycle:
      postStart:
        exec:
          command:
          - /carpool
          - wait
          - --timeout
          - 60s
          - --admin
          - 127.0.0.1:9930
    livenessProbe:
      failureThreshold: 3
      httpGet:
        path: /livez
        port: carpool-admin
      periodSeconds: 10
      timeoutSeconds: 3
    name: carpool
    ports:
    - containerPort: 9930
      name: carpool-admin
      protocol: TCP
    resources:
      limits:
        memory: 64Mi
      requests:
        cpu: 10m
        memory: 16Mi
    securityContext:
      allowPrivilegeEscalation: false
      capabilities:
        drop:
        - ALL
      readOnlyRootFilesystem: true
      runAsGroup: 65532
      runAsNonRoot: true
      runAsUser: 65532
      seccompProfile:
        type: RuntimeDefault
    startupProbe:
      failureThreshold: 60
      httpGet:
        path: /startupz
        port: carpool-admin
      periodSeconds: 1
      timeoutSeconds: 2
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
    - mountPath: /etc/carpool
      name: carpool-config
      readOnly: true
    - mountPath: /etc/carpool-secrets
      name: carpool-secrets
      readOnly: true
volumes:
  - name: carpool-config
    configMap:
      name: "carpool"
  - name: carpool-secrets
    secret:
      secretName: "carpool"
      defaultMode: 420
      optional: true
)yaml";

}  // namespace carpool::cli
